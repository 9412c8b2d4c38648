//! Charts rendered on the server, without scripts and inline styles, and accessible as tables.

use maud::{Markup, html};

use super::components::number;

/// Width and height of a chart in its own units.
const SIZE: (usize, usize) = (600, 80);

/// A bar chart over time, the latest at the right, with a table for screen readers.
pub(super) fn bars(title: &str, unit: &str, values: &[(String, i64)]) -> Markup {
    let max = values.iter().map(|(_, value)| *value).max().unwrap_or(0).max(1);
    let step = SIZE.0 / values.len().max(1);
    let height = |value: i64| {
        let share = i128::from(value.max(0)) * 80 / i128::from(max);
        usize::try_from(share).unwrap_or_default()
    };
    html! {
        figure.chart {
            figcaption { (title) span.soft { " peak: " (number(max)) " " (unit) } }
            svg viewBox={ "0 0 " (SIZE.0) " " (SIZE.1) } preserveAspectRatio="none" role="img" aria-label={ (title) ", peak: " (number(max)) " " (unit) } {
                @for (place, (name, value)) in values.iter().enumerate() {
                    @let tall = height(*value);
                    rect x=(place * step) y=(SIZE.1 - tall) width=(step.saturating_sub(1).max(1)) height=(tall) {
                        title { (name) ": " (number(*value)) " " (unit) }
                    }
                }
                line x1="0" y1=(SIZE.1) x2=(SIZE.0) y2=(SIZE.1) {}
            }
        }
    }
}

/// How much of a limit is used.
pub(super) fn meter(used: i64, limit: i64) -> Markup {
    let percent = used.max(0).saturating_mul(100) / limit.max(1);
    let kind = match percent {
        ..50 => "good",
        50..80 => "warn",
        _ => "bad",
    };
    html! {
        span.meter.(kind) {
            progress value=(percent.min(100)) max="100" { (percent) " %" }
            " " (percent) " %"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chart_has_a_bar_for_each_value_and_none_higher_than_itself() {
        let values: Vec<(String, i64)> =
            (0..60).map(|n| (format!("10:{n:02}"), n * 1_000_000_000_000)).collect();
        let text = bars("Messages", "a minute", &values).into_string();
        assert_eq!(text.matches("<rect").count(), 60);
        assert!(text.contains("height=\"80\"") && !text.contains("height=\"81\""), "{text}");
        assert!(bars("None", "a minute", &[]).into_string().contains("peak: 1"));
    }

    #[test]
    fn a_meter_says_its_figure_beside_its_colour() {
        assert!(meter(79, 100).into_string().contains("79 %"));
        assert!(meter(5, 0).into_string().contains("500 %"));
    }
}
