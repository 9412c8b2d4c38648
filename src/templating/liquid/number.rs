//! Numbers: whole ones exactly, others as floats with decimal sums where they fit.

use std::cmp::Ordering;

/// A number.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Number {
    /// A whole number; 128 bits hold every number that JSON may carry here.
    Int(i128),
    /// Any other.
    Float(f64),
}

impl Number {
    /// A number of JSON.
    pub fn of_json(number: &serde_json::Number) -> Self {
        match (number.as_i64(), number.as_u64()) {
            (Some(int), _) => Self::Int(int.into()),
            (None, Some(int)) => Self::Int(int.into()),
            (None, None) => Self::Float(number.as_f64().unwrap_or_default()),
        }
    }

    /// Reads a number from a text that is one, such as `"12.5"`.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
        if !digits.starts_with(|c: char| c.is_ascii_digit()) || digits.contains(['e', 'E']) {
            return None;
        }
        if let Ok(int) = text.parse() {
            return Some(Self::Int(int));
        }
        text.parse().ok().map(Self::Float)
    }

    /// What the reference engine calculates with for any text: the number that it is, else the digits that it begins with.
    pub fn leading(text: &str) -> Self {
        let text = text.trim_matches(|c: char| c.is_ascii_whitespace() || c == '\u{b}' || c == '\0');
        let unsigned = text.strip_prefix('-').unwrap_or(text);
        let is_digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        if unsigned.split_once('.').is_some_and(|(whole, part)| is_digits(whole) && is_digits(part)) {
            return text.parse().map_or(Self::Int(0), Self::Float);
        }
        let (sign, digits) = match text.strip_prefix(['-', '+']) {
            Some(digits) => (if text.starts_with('-') { "-" } else { "" }, digits),
            None => ("", text),
        };
        let mut number = sign.to_owned();
        let mut before = '_';
        for c in digits.chars() {
            let is_separator = c == '_' && before != '_';
            if !c.is_ascii_digit() && !is_separator {
                break;
            }
            number.extend((c != '_').then_some(c));
            before = c;
        }
        number.parse().map_or(Self::Int(0), Self::Int)
    }

    /// As a float, rounded where it has to be.
    #[expect(
        clippy::cast_precision_loss,
        reason = "a float is asked for; whole numbers beyond 2^53 are rounded"
    )]
    pub fn as_f64(self) -> f64 {
        match self {
            Self::Int(int) => int as f64,
            Self::Float(float) => float,
        }
    }

    /// The nearest whole number towards which `round` turns a float.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "casts saturate, which is what a huge float should do"
    )]
    pub fn whole(self, round: fn(f64) -> f64) -> Self {
        match self {
            Self::Int(int) => Self::Int(int),
            // The digits that are written decide: 12345678901234567000.0 is that number, whatever its float is.
            Self::Float(float) if float.abs() >= 1e15 => {
                Self::Int(float.to_string().parse().unwrap_or(float as i128))
            }
            Self::Float(float) => Self::Int(round(float) as i128),
        }
    }

    /// As a count or an index, cut to what fits.
    pub fn as_i64(self) -> i64 {
        match self.whole(f64::trunc) {
            Self::Int(int) => i64::try_from(int).unwrap_or(if int < 0 { i64::MIN } else { i64::MAX }),
            Self::Float(_) => 0,
        }
    }

    /// Compares by value, whatever the kind.
    pub fn compare(self, other: Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Int(a), Self::Int(b)) => Some(a.cmp(&b)),
            (a, b) => a.as_f64().partial_cmp(&b.as_f64()),
        }
    }

    /// `self + other`.
    pub fn plus(self, other: Self) -> Self {
        self.calculate(other, true, i128::checked_add, |a, b| a + b)
    }

    /// `self - other`.
    pub fn minus(self, other: Self) -> Self {
        self.calculate(other, true, i128::checked_sub, |a, b| a - b)
    }

    /// `self × other`.
    pub fn times(self, other: Self) -> Self {
        self.calculate(other, false, i128::checked_mul, |a, b| a * b)
    }

    /// `self ÷ other`, downwards if both are whole; `None` if `other` is zero.
    pub fn divided_by(self, other: Self) -> Option<Self> {
        if let (Self::Int(a), Self::Int(b)) = (self, other) {
            let quotient = a.checked_div(b)?;
            let below = a % b != 0 && ((a < 0) != (b < 0));
            return Some(Self::Int(quotient - i128::from(below)));
        }
        let divisor = other.as_f64();
        if divisor == 0.0 {
            return None;
        }
        let exact = || {
            let (a, b) = self.aligned(other)?;
            quotient(a, b)
        };
        Some(Self::Float(exact().unwrap_or_else(|| self.as_f64() / divisor)))
    }

    /// The rest of `divided_by`, with the sign of `other`; `None` if `other` is zero.
    pub fn modulo(self, other: Self) -> Option<Self> {
        if let (Self::Int(a), Self::Int(b)) = (self, other) {
            let rest = a.checked_rem(b)?;
            return Some(Self::Int(if rest != 0 && ((rest < 0) != (b < 0)) { rest + b } else { rest }));
        }
        let (a, b) = (self.as_f64(), other.as_f64());
        if b == 0.0 {
            return None;
        }
        let exact = || {
            let (a, b) = self.aligned(other)?;
            let rest = a.checked_rem(b)?;
            let rest = if rest != 0 && ((rest < 0) != (b < 0)) { rest + b } else { rest };
            let scale = self.decimal()?.1.max(other.decimal()?.1);
            from_decimal(rest, scale)
        };
        Some(exact().unwrap_or_else(|| Self::Float(a - b * (a / b).floor())))
    }

    /// Both as whole numbers of the same small unit, if they fit.
    fn aligned(self, other: Self) -> Option<(i128, i128)> {
        let ((a, a_scale), (b, b_scale)) = (self.decimal()?, other.decimal()?);
        let scale = a_scale.max(b_scale);
        let a = a.checked_mul(10i128.checked_pow(scale - a_scale)?)?;
        Some((a, b.checked_mul(10i128.checked_pow(scale - b_scale)?)?))
    }

    /// Rounded to `places` after the point; negative ones count before it.
    pub fn round_to(self, places: i64) -> Self {
        if places < 0 {
            return self.round_before(places.unsigned_abs());
        }
        let Self::Float(float) = self else { return self };
        let places = places.clamp(0, 15);
        // Formatting rounds the shortest decimal text half to even on ties of the binary value; going through the
        // scaled value instead keeps 2.675 -> 2.68 as people expect.
        let scale = 10f64.powi(i32::try_from(places).unwrap_or(0));
        let scaled = Self::Float(float).times(Self::Float(scale)).as_f64();
        if !scaled.is_finite() {
            return self;
        }
        Self::Float(scaled.round() / scale)
    }

    /// Rounded to an integer with this many trailing zeros; half is rounded away from zero.
    fn round_before(self, zeros: u64) -> Self {
        let Self::Int(int) = self.whole(f64::round) else { return self };
        let unit = u32::try_from(zeros).ok().and_then(|zeros| 10i128.checked_pow(zeros));
        // Less than half of the unit rounds to zero.
        let Some(unit) = unit else { return Self::Int(0) };
        let (rest, half) = ((int % unit).abs(), unit / 2);
        let below = int - int % unit;
        Self::Int(if rest >= half { below.saturating_add(unit * int.signum()) } else { below })
    }

    /// Calculates exactly in decimals where both fit (19.99 × 3 is 59.97), else in floats.
    fn calculate(
        self,
        other: Self,
        same_scale: bool,
        exact: fn(i128, i128) -> Option<i128>,
        approximate: fn(f64, f64) -> f64,
    ) -> Self {
        if let (Self::Int(a), Self::Int(b)) = (self, other) {
            return exact(a, b)
                .map_or_else(|| Self::Float(approximate(self.as_f64(), other.as_f64())), Self::Int);
        }
        let decimal = || {
            let ((a, a_scale), (b, b_scale)) = (self.decimal()?, other.decimal()?);
            if !same_scale {
                return from_decimal(exact(a, b)?, a_scale + b_scale);
            }
            let (a, b) = self.aligned(other)?;
            from_decimal(exact(a, b)?, a_scale.max(b_scale))
        };
        decimal().unwrap_or_else(|| Self::Float(approximate(self.as_f64(), other.as_f64())))
    }

    /// The number as digits and a count of decimal places, if both are small.
    fn decimal(self) -> Option<(i128, u32)> {
        let float = match self {
            Self::Int(int) => return Some((int, 0)),
            Self::Float(float) => float,
        };
        if !float.is_finite() || float.abs() >= 1e25 || (float != 0.0 && float.abs() < 1e-15) {
            return None;
        }
        let text = float.to_string();
        let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
        let scale = u32::try_from(fraction.len()).ok()?;
        Some((format!("{whole}{fraction}").parse().ok()?, scale))
    }
}

/// `a / b` with more digits than a float holds, so that the nearest float is found.
fn quotient(a: i128, b: i128) -> Option<f64> {
    let sign = if (a < 0) == (b < 0) { "" } else { "-" };
    let (a, b) = (a.unsigned_abs(), b.unsigned_abs());
    let mut text = format!("{sign}{}.", a.checked_div(b)?);
    let mut rest = a % b;
    for _ in 0..40 {
        rest = rest.checked_mul(10)?;
        text.push(char::from_digit(u32::try_from(rest / b).ok()?, 10)?);
        rest %= b;
    }
    text.parse().ok()
}

fn from_decimal(digits: i128, scale: u32) -> Option<Number> {
    format!("{digits}e-{scale}").parse().ok().map(Number::Float)
}

impl std::fmt::Display for Number {
    /// As the reference engine writes it: floats keep a point (`3.0`), and have an exponent (`1.0e+16`) from 10^16 on and
    /// below 0.0001.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let float = match self {
            Self::Int(int) => return write!(f, "{int}"),
            Self::Float(float) => *float,
        };
        if float.is_nan() {
            return f.write_str("NaN");
        }
        if float.is_infinite() {
            return f.write_str(if float < 0.0 { "-Infinity" } else { "Infinity" });
        }
        if float == 0.0 || (1e-4..1e16).contains(&float.abs()) {
            let text = float.to_string();
            return write!(f, "{text}{}", if text.contains('.') { "" } else { ".0" });
        }
        let text = format!("{float:e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let point = if digits.contains('.') { "" } else { ".0" };
        let (sign, exponent) = match exponent.strip_prefix('-') {
            Some(exponent) => ('-', exponent),
            None => ('+', exponent),
        };
        write!(f, "{digits}{point}e{sign}{exponent:0>2}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_text_is_calculated_with_as_the_digits_that_it_begins_with() {
        let leading = |text: &str| Number::leading(text).to_string();
        let found =
            ["1,234", "abc", " 12.5 ", "1_000", "1__0", "1e3", "-7x", "+5", "", "-", ".5", "3."].map(leading);
        assert_eq!(found, ["1", "0", "12.5", "1000", "1", "1", "-7", "5", "0", "0", "0", "3"]);
    }

    #[test]
    fn floats_are_written_with_a_point_and_two_digits_of_exponent() {
        let found = [3.0, 0.0001, 0.00001, 1e15, 1e16, 1e21, 1.25e-7, -2.5e100]
            .map(|float| Number::Float(float).to_string());
        let wanted =
            ["3.0", "0.0001", "1.0e-05", "1000000000000000.0", "1.0e+16", "1.0e+21", "1.25e-07", "-2.5e+100"];
        assert_eq!(found, wanted);
    }

    #[test]
    fn negative_places_round_before_the_point() {
        let rounded = |number: Number, places| number.round_to(places).to_string();
        assert_eq!(rounded(Number::Float(1234.5), -2), "1200");
        assert_eq!(rounded(Number::Int(1250), -2), "1300");
        assert_eq!(rounded(Number::Int(-1250), -2), "-1300");
        assert_eq!(rounded(Number::Int(5), -40), "0");
    }
}
