//! Templates made up from a seed: paths, filters, conditions and loops over the values of data.json.

/// How many are rendered.
pub const TEMPLATES: u64 = 2_500;

/// Numbers that a seed decides.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5851_f42d_4c95_7f2d)
    }

    pub fn below(&mut self, max: usize) -> usize {
        // splitmix64
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % u64::try_from(max).expect("it fits")).expect("it fits")
    }

    pub fn of<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[self.below(choices.len())]
    }

    pub fn one_in(&mut self, chances: usize) -> bool {
        self.below(chances) == 0
    }
}

const VALUES: [&str; 44] = [
    "data.name",
    "data.n",
    "data.price",
    "data.yes",
    "data.no",
    "data.null",
    "data.zero",
    "data.minus",
    "data.pi",
    "data.huge",
    "data.tiny",
    "data.wide",
    "data.digits",
    "data.empty",
    "data.blanks",
    "data.spaces",
    "data.nbsp",
    "data.nul",
    "data.umlaut",
    "data.emoji",
    "data.html",
    "data.lines",
    "data.code",
    "data.long",
    "data.list",
    "data.numbers",
    "data.none",
    "data.nested",
    "data.gaps",
    "data.mixed",
    "data.things",
    "data.nothing",
    "data.items",
    "data.when",
    "data.day",
    "data.missing",
    "data.2fa",
    "data.items[0].name",
    "data.list[1]",
    "data.shop",
    "user.tags.points",
    "user.tags.nick",
    "user.tags.city",
    "v",
];
const LITERALS: [&str; 20] = [
    "'a'",
    "\"b c\"",
    "''",
    "' '",
    "1",
    "0",
    "-3",
    "2.5",
    "true",
    "false",
    "nil",
    "'7'",
    "'1,234'",
    "'12.5'",
    "'<b>x & y</b>'",
    "'a, b,,c'",
    "'line\none'",
    "'ÄÖÜ\u{a0}ß'",
    "'2026-11-25'",
    "'{%'",
];
const FILTERS: [&str; 68] = [
    "upcase",
    "downcase",
    "capitalize",
    "strip",
    "lstrip",
    "rstrip",
    "strip_html",
    "newline_to_br",
    "escape",
    "url_encode",
    "size",
    "first",
    "last",
    "reverse",
    "uniq",
    "compact",
    "join",
    "join: ', '",
    "sort",
    "abs",
    "ceil",
    "floor",
    "round",
    "round: 1",
    "round: 2",
    "round: -1",
    "plus: 1",
    "plus: 0.1",
    "minus: 2.5",
    "times: 3",
    "times: 0.5",
    "divided_by: 2",
    "divided_by: 0.7",
    "divided_by: 0",
    "modulo: 3",
    "modulo: 0.4",
    "at_least: 5",
    "at_most: 5.5",
    "append: '!'",
    "append: data.n",
    "prepend: '<'",
    "prepend: data.code",
    "remove: 'a'",
    "remove_first: ' '",
    "replace: 'a', '[\\0]'",
    "replace: ' ', '_'",
    "replace_first: 'e', data.n",
    "truncate: 5",
    "truncate: 3, ''",
    "truncate: 12, '…'",
    "truncatewords: 2",
    "truncatewords: 1, '~'",
    "slice: 1",
    "slice: -3, 2",
    "slice: 0, 4",
    "split: ' '",
    "split: ','",
    "split: ''",
    "default: 'none'",
    "default: data.name",
    "default: false, allow_false: true",
    "map: 'name'",
    "map: 'zz'",
    "where: 'kind', 'food'",
    "where: 'stock'",
    "pluralize: 'one', 'many'",
    "url_decode",
    "track_link",
];
const OPERATORS: [&str; 8] = ["==", "!=", "<>", "<", ">", "<=", ">=", "contains"];

pub fn template(seed: u64) -> String {
    let mut random = Random::new(seed);
    let mut text = String::new();
    if random.one_in(3) {
        text = format!("{{% assign v = {} %}}", filtered(&mut random));
    }
    for _ in 0..=random.below(4) {
        text.push_str(&part(&mut random, 2));
    }
    text
}

fn part(random: &mut Random, depth: usize) -> String {
    let choices = if depth == 0 { 7 } else { 14 };
    match random.below(choices) {
        0..4 => output(random),
        4 => date(random),
        5 => random.of(&[" ", "\n", " text ", "é<b>", "{ } %} ", "\u{a0}", "\t \r\n"]).to_owned(),
        6 => format!("{{% raw %}}{}{{% endraw %}}", random.of(&["", " ", "{{ x }}", "{% if %}", "a "])),
        7 => block(random, depth, "if"),
        8 => block(random, depth, "unless"),
        9 | 10 => repeat(random, depth),
        11 => {
            let (name, body) = (random.of(&["v", "w"]), parts(random, depth));
            format!("{{% capture {name} %}}{body}{{% endcapture %}}{{{{ {name} | {} }}}}", filter(random))
        }
        12 => case(random, depth),
        _ => format!("{{%- comment %}} {} {{% endcomment -%}}", output(random)),
    }
}

fn parts(random: &mut Random, depth: usize) -> String {
    (0..random.below(3)).map(|_| part(random, depth - 1)).collect()
}

fn output(random: &mut Random) -> String {
    let (open, close) = (random.of(&["{{ ", "{{", "{{- "]), random.of(&[" }}", "}}", " -}}"]));
    format!("{open}{}{close}", filtered(random))
}

fn date(random: &mut Random) -> String {
    let moment = random.of(&[
        "data.when",
        "data.day",
        "data.epoch",
        "data.millis",
        "'Nov 25 2026'",
        "'25.11.2026 10:30'",
        "-86400",
        "data.yes",
        "data.null",
    ]);
    let letters = "aAbBcCdDeFgGhHIjklLmMnNpPrRsStTuUvVwWxXyYzZ%fqQiJK";
    let flags = random.of(&["", "", "", "-", "_", "0", "^", "#", "5", "-3", "_6", "010", "^4", ":", "E"]);
    let at = random.below(letters.len());
    format!("{{{{ {moment} | date: '[%{flags}{}] %Y' }}}}", &letters[at..=at])
}

fn value(random: &mut Random) -> &'static str {
    if random.one_in(4) { random.of(&LITERALS) } else { random.of(&VALUES) }
}

fn filter(random: &mut Random) -> &'static str {
    random.of(&FILTERS)
}

fn filtered(random: &mut Random) -> String {
    let mut text = value(random).to_owned();
    for _ in 0..random.below(4) {
        text = format!("{text} | {}", filter(random));
    }
    text
}

fn condition(random: &mut Random) -> String {
    let mut text = test(random);
    for _ in 0..random.below(3) {
        text = format!("{text} {} {}", random.of(&["and", "or"]), test(random));
    }
    text
}

fn test(random: &mut Random) -> String {
    let left = value(random);
    if random.one_in(3) {
        return left.to_owned();
    }
    let right = if random.one_in(4) { random.of(&["blank", "empty"]) } else { value(random) };
    format!("{left} {} {right}", random.of(&OPERATORS))
}

fn block(random: &mut Random, depth: usize, name: &str) -> String {
    let mut text = format!("{{% {name} {} %}}{}", condition(random), parts(random, depth));
    if random.one_in(3) {
        text = format!("{text}{{% elsif {} %}}{}", condition(random), parts(random, depth));
    }
    if random.one_in(2) {
        text = format!("{text}{{% else -%}} {}", parts(random, depth));
    }
    format!("{text}{{%- end{name} %}}")
}

fn repeat(random: &mut Random, depth: usize) -> String {
    let list = value(random);
    let bounds = random.of(&[
        "",
        "",
        " reversed",
        " limit:2",
        " limit: 1 offset:1",
        " reversed offset: data.one",
        " limit: data.null",
        " limit: 'x'",
    ]);
    let inner = random.of(&[
        "{{ v }},",
        "{{ v | upcase }}",
        "{{ forloop.index }}",
        "{{ v.name }}{{ v[0] }}",
        "{% if forloop.last %}.{% endif %}",
    ]);
    let jump =
        random.of(&["", "", "", "{% break %}", "{% if forloop.index == 2 %}{% continue %}{% endif %}"]);
    let mut text = format!("{{% for v in {list}{bounds} %}}{jump}{inner}{}", parts(random, depth));
    if random.one_in(3) {
        text = format!("{text}{{% else %}}{}", parts(random, depth));
    }
    text + "{% endfor %}"
}

fn case(random: &mut Random, depth: usize) -> String {
    let mut text = format!("{{% case {} %}}", value(random));
    for _ in 0..=random.below(3) {
        let more = if random.one_in(2) {
            format!("{}{}", random.of(&[", ", " or "]), value(random))
        } else {
            String::new()
        };
        text = format!("{text}{{% when {}{more} %}}{}", value(random), parts(random, depth));
    }
    if random.one_in(2) {
        text = format!("{text}{{% else %}}{}", parts(random, depth));
    }
    text + "{% endcase %}"
}
