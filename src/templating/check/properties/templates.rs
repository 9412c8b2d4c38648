//! Random copy over the paths of a schema.

use super::schemas::Plan;
use super::tape::Tape;

/// What copy can read at a point.
#[derive(Clone)]
pub struct Scope {
    /// Paths, with what is there.
    pub paths: Vec<(String, Plan)>,
    /// How many names were made up so far.
    names: usize,
}

impl Scope {
    /// Everything below `data`.
    pub fn of(data: &Plan) -> Self {
        let mut paths = Vec::new();
        data.paths("data", &mut paths);
        Self { paths, names: 0 }
    }

    fn path(&self, tape: &mut Tape) -> String {
        if self.paths.is_empty() {
            return "data.a".to_owned();
        }
        let path = tape.pick(&self.paths).0;
        if tape.once_in(16) { format!("{path}[{}]", tape.pick(&self.paths).0) } else { path }
    }

    fn with(&self, name: &str, plan: &Plan) -> Self {
        let mut scope = self.clone();
        scope.paths.push((name.to_owned(), plan.clone()));
        let mut below = Vec::new();
        plan.paths(name, &mut below);
        // What was just named is the likeliest to be read.
        scope.paths.extend(below.iter().cloned());
        scope.paths.extend(below);
        scope.paths.push((name.to_owned(), plan.clone()));
        scope
    }
}

/// Some parts.
pub fn parts(tape: &mut Tape, scope: &mut Scope, depth: usize, user: bool) -> String {
    let count = 1 + tape.below(if depth == 0 { 2 } else { 3 });
    (0..count).map(|_| part(tape, scope, depth, user)).collect()
}

fn part(tape: &mut Tape, scope: &mut Scope, depth: usize, user: bool) -> String {
    let simple = depth == 0;
    match tape.below(if simple { 7 } else { 18 }) {
        0..=3 => format!("{{{{ {} }}}}", filtered(tape, scope, user)),
        4 => "some text that is long enough to stay where it is ".to_owned(),
        5 => {
            let (value, name) = (filtered(tape, scope, user), name(scope));
            let plan = Plan::Anything;
            *scope = scope.with(&name, &plan);
            format!("{{% assign {name} = {value} %}}{{{{ {name} }}}}")
        }
        6 => {
            // A new name for a path, read as the path is.
            let (path, plan) = chosen(tape, scope);
            let name = name(scope);
            *scope = scope.with(&name, &plan);
            format!("{{% assign {name} = {path} %}}")
        }
        7 | 8 => {
            // What is tested is what is read.
            let path = scope.path(tape);
            let test = tape.pick(&["", " != nil", " != blank", " != empty", " == 'p'", " > 0", ".size > 0"]);
            let body = parts(tape, scope, depth - 1, user);
            format!("{{% if {path}{test} %}}{{{{ {path} }}}}{body}{{% endif %}}")
        }
        9 => {
            let test = condition(tape, scope, user);
            let (yes, no) = (parts(tape, scope, depth - 1, user), parts(tape, scope, depth - 1, user));
            let (open, close) = tape.pick(&[("if", "endif"), ("unless", "endunless")]);
            format!("{{% {open} {test} %}}{yes}{{% else %}}{no}{{% {close} %}}")
        }
        10..=12 => repeat(tape, scope, depth, user),
        13 => {
            let (path, body) = (scope.path(tape), parts(tape, scope, depth - 1, user));
            format!(
                "{{% case {path} %}}{{% when 'p', 'q' %}}{{{{ {path} }}}}{{% else %}}{body}{{% endcase %}}"
            )
        }
        14 => {
            // Only where OneSignal doesn't decide, the test guards.
            let path = scope.path(tape);
            let join = tape.pick(&[" and ", " or "]);
            let other = if user { "user.vip".to_owned() } else { scope.path(tape) };
            format!("{{% if {path}{join}{other} %}}{{{{ {path} }}}}{{% endif %}}")
        }
        _ => set(tape, scope, depth, user),
    }
}

/// Names that are set in one place and read in another.
fn set(tape: &mut Tape, scope: &mut Scope, depth: usize, user: bool) -> String {
    match tape.below(3) {
        0 => {
            // Set in one branch, and read behind it.
            let (test, a, b) = (condition(tape, scope, user), filtered(tape, scope, user), scope.path(tape));
            let name = name(scope);
            *scope = scope.with(&name, &Plan::Anything);
            format!(
                "{{% assign {name} = {b} %}}{{% if {test} %}}{{% assign {name} = {a} %}}{{% endif %}}{{{{ {name} }}}}"
            )
        }
        1 => {
            let (body, name) = (parts(tape, scope, depth - 1, user), name(scope));
            *scope = scope.with(&name, &Plan::Anything);
            format!("{{% capture {name} %}}{body}{{% endcapture %}}{{{{ {name} }}}}")
        }
        _ => {
            // What one round sets, the next one reads.
            let ((list, _), name) = (list(tape, scope), name(scope));
            let (first, then) = (scope.path(tape), scope.path(tape));
            format!(
                "{{% assign {name} = {first} %}}{{% for i in {list} %}}{{{{ {name} }}}}{{% assign {name} = {then} %}}{{% endfor %}}{{{{ {name} }}}}"
            )
        }
    }
}

fn repeat(tape: &mut Tape, scope: &mut Scope, depth: usize, user: bool) -> String {
    let (path, plan) = list(tape, scope);
    let element = match plan {
        Plan::List(item, _) => *item,
        _ => Plan::Anything,
    };
    let name = name(scope);
    let mut inner = scope.with(&name, &element);
    let body = parts(tape, &mut inner, depth - 1, user);
    scope.names = inner.names;
    let otherwise = tape.pick(&["", "{% else %}none"]);
    let jump = tape.pick(&["", "", "", "{% if forloop.index > 1 %}{% break %}{% endif %}"]);
    let bounds = tape.pick(&["", "", " limit:2", " reversed"]);
    format!("{{% for {name} in {path}{bounds} %}}{body}{jump}{otherwise}{{% endfor %}}")
}

/// A list to loop over, or something else if there is none.
fn list(tape: &mut Tape, scope: &Scope) -> (String, Plan) {
    let is_list = |(_, plan): &&(String, Plan)| matches!(plan, Plan::List(..));
    let lists: Vec<(String, Plan)> = scope.paths.iter().filter(is_list).cloned().collect();
    if lists.is_empty() { chosen(tape, scope) } else { tape.pick(&lists) }
}

fn chosen(tape: &mut Tape, scope: &Scope) -> (String, Plan) {
    if scope.paths.is_empty() { ("data.a".to_owned(), Plan::Anything) } else { tape.pick(&scope.paths) }
}

fn name(scope: &mut Scope) -> String {
    scope.names += 1;
    format!("v{}", scope.names)
}

fn filtered(tape: &mut Tape, scope: &Scope, user: bool) -> String {
    let mut text = if user && tape.once_in(5) { "user.name".to_owned() } else { scope.path(tape) };
    let count = tape.below(8).saturating_sub(4);
    for _ in 0..count {
        let filter = tape.pick(&[
            "default: 'd'",
            "default: @",
            "upcase",
            "append: '!'",
            "append: @",
            "prepend: @",
            "plus: 1",
            "times: @",
            "date: '%Y'",
            "size",
            "first",
            "last",
            "join: ','",
            "map: 'a'",
            "where: 'a'",
            "split: '-'",
            "strip",
            "truncate: 3",
            "truncate: 3, ''",
            "slice: 1",
            "remove: 'x'",
            "replace: 'x', 'y'",
            "pluralize: 'a', 'b'",
            "pluralize: '', @",
            "compact",
            "sort",
            "uniq",
            "reverse",
            "json",
            "divided_by: @",
            "round",
            "strip_html",
            "url_decode",
            "default: ''",
            "capitalize",
            "truncatewords: 1",
        ]);
        let arg = if user && tape.once_in(6) { "user.n".to_owned() } else { scope.path(tape) };
        text.push_str(" | ");
        text.push_str(&filter.replace('@', &arg));
    }
    text
}

fn condition(tape: &mut Tape, scope: &Scope, user: bool) -> String {
    let test = |tape: &mut Tape| {
        if user && tape.once_in(4) {
            return "user.vip".to_owned();
        }
        let path = scope.path(tape);
        let compared = tape.pick(&[
            "",
            "",
            " != nil",
            " == nil",
            " == blank",
            " != ''",
            " == 1",
            " < 3",
            " contains 'x'",
            " == 'p'",
        ]);
        format!("{path}{compared}")
    };
    let first = test(tape);
    match tape.below(4) {
        0 => format!("{first} and {}", test(tape)),
        1 => format!("{first} or {}", test(tape)),
        _ => first,
    }
}
