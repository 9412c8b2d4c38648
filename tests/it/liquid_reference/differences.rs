//! Where Herald's engine differs from the Ruby one, and why: the same table as in docs/liquid.md.

pub struct Difference {
    pub template: &'static str,
    /// What Herald renders; none if it refuses the template.
    pub ours: Option<&'static str>,
    /// What the Ruby engine does, in words.
    pub theirs: &'static str,
    pub reason: &'static str,
}

impl Difference {
    /// Its row in the document's table.
    pub fn row(&self) -> String {
        let template = self.template.replace('|', "\\|");
        let ours = self.ours.map_or_else(|| "refused".to_owned(), |text| format!("`{text}`"));
        format!("| `{template}` | {ours} | {} | {} |", self.theirs, self.reason)
    }
}

const fn refused(template: &'static str, theirs: &'static str, reason: &'static str) -> Difference {
    Difference { template, ours: None, theirs, reason }
}

const UNKNOWN: &str = "OneSignal does not document it; what may come out blank is refused";

#[rustfmt::skip]
pub const ALL: &[Difference] = &[
    refused("{{ data.name | sort_natural }}", "passes an unknown filter's input on", UNKNOWN),
    refused("{{ data.name | escape_once }}", "escapes", UNKNOWN),
    refused("{% cycle 'a', 'b' %}", "prints the next value", UNKNOWN),
    refused("{% increment n %}", "counts", UNKNOWN),
    refused("{% tablerow x in data.list %}{{ x }}{% endtablerow %}", "writes a table", UNKNOWN),
    refused("{% liquid assign x = 1 %}", "runs tags line by line", UNKNOWN),
    refused("{% echo data.name %}", "prints", UNKNOWN),
    refused("{% for x in (1..3) %}{{ x }}{% endfor %}", "goes through a range", UNKNOWN),
    refused("{{ }}", "prints nothing", "it is surely a mistake"),
    refused("{{ data.name | upcase: 1 }}", "reports an error in its place", "a mistake is reported when the copy is saved"),
    refused("{{ data..name }}", "reads as well as it can", "a mistake is reported when the copy is saved"),
    refused("{% break %}", "ends the template", "it is surely a mistake"),
    refused("{% if data.n = 7 %}x{% endif %}", "reports an error in its place", "a mistake is reported when the copy is saved"),
    refused("{{ 'now' | date: '%Y' }}", "the time of rendering", "the text would depend on when it is rendered"),
    Difference { template: "{{ '10:00' | date: '%H' }}", ours: Some("10:00"), theirs: "today at that time", reason: "the text would depend on when it is rendered" },
    Difference { template: "{{ 'order 1001' | date: '%F' }}", ours: Some("order 1001"), theirs: "the first of October", reason: "only a text that is a date as a whole is one" },
    Difference { template: "{{ '25.11.26' | date: '%F' }}", ours: Some("25.11.26"), theirs: "the 26th of November 2025", reason: "a year of two digits can be taken for a day" },
    Difference { template: "{{ '2026-02-30' | date: '%F' }}", ours: Some("2026-02-30"), theirs: "the second of March", reason: "a day that there is not is a mistake of the sender" },
    Difference { template: "{{ data.name | json }}", ours: Some("\"Ann Lee\""), theirs: "passes an unknown filter's input on", reason: "OneSignal is not asked to do it: Herald computes it" },
    Difference { template: "{{ data.things['first'] }}", ours: Some("2two"), theirs: "nothing", reason: "a key in brackets is read as one after a dot" },
    Difference { template: "{% for x in data.list limit:2 reversed %}{{ x }}{% endfor %}", ours: Some("ac"), theirs: "overlooks `reversed`", reason: "refused when the copy is saved, where OneSignal would run it" },
    Difference { template: "{% if data.n==7 %}x{% endif %}", ours: Some("x"), theirs: "takes `data.n==7` for a name", reason: "refused when the copy is saved, where OneSignal would run it" },
];
