//! Posting an event: a table of its fields, and code examples.

use maud::{Markup, html};
use serde_json::{Value, json};

use super::super::event::pretty;
use super::super::templates::walk;

/// The fields of a schema.
pub(super) fn schema_table(schema: &Value, sensitive: &[String]) -> Markup {
    let mut rows: Vec<(String, String, bool)> = Vec::new();
    walk(schema, "", &mut |path, kind, is_required| {
        rows.push((path.trim_start_matches('.').to_owned(), kind.to_owned(), is_required));
    });
    html! {
        @if rows.is_empty() {
            p.soft { "The schema defines no fields: any are accepted." }
        } @else {
            table.rows {
                thead { tr { th { "Value" } th { "Type" } th { "" } th { "" } } }
                tbody {
                    @for (path, kind, is_required) in &rows {
                        tr {
                            td { code { (path) } } td { (kind) }
                            td { @if *is_required { "required" } @else { span.soft { "optional" } } }
                            td { @if sensitive.iter().any(|pointer| pointer.trim_start_matches('/').replace('/', ".") == *path) { span.chip.warn { "◆ sensitive" } } }
                        }
                    }
                }
            }
        }
    }
}

/// Code examples that post an event.
pub(super) fn code(base: &str, event_type: &str, sample: &Value) -> Markup {
    let event = json!({
        "id": "an-id-of-yours-that-stays-the-same-when-you-try-again",
        "type": event_type,
        "recipient": {"external_id": "user-42"},
        "data": sample,
    });
    let body = pretty(&event);
    let ways = [
        (
            "curl",
            format!(
                "curl -sS {base}/v1/events \\\n  -H \"Authorization: Bearer $HERALD_KEY\" \\\n  -H 'Content-Type: application/json' \\\n  -d '{}'",
                body.replace('\'', "'\\''")
            ),
        ),
        (
            "JavaScript",
            format!(
                "const answer = await fetch(\"{base}/v1/events\", {{\n  method: \"POST\",\n  headers: {{ Authorization: `Bearer ${{process.env.HERALD_KEY}}`, \"Content-Type\": \"application/json\" }},\n  body: JSON.stringify({body}),\n}});\nif (answer.status !== 202) throw new Error(await answer.text());"
            ),
        ),
        (
            "Python",
            format!(
                "import json, os, urllib.request\n\nevent = json.loads(r'''{body}''')\nrequest = urllib.request.Request(\"{base}/v1/events\", json.dumps(event).encode(), {{\n    \"Authorization\": \"Bearer \" + os.environ[\"HERALD_KEY\"], \"Content-Type\": \"application/json\"}})\nprint(urllib.request.urlopen(request).read())"
            ),
        ),
        (
            "Go",
            format!(
                "body := []byte(`{body}`)\nrequest, _ := http.NewRequest(\"POST\", \"{base}/v1/events\", bytes.NewReader(body))\nrequest.Header.Set(\"Authorization\", \"Bearer \"+os.Getenv(\"HERALD_KEY\"))\nrequest.Header.Set(\"Content-Type\", \"application/json\")\nanswer, err := http.DefaultClient.Do(request)"
            ),
        ),
    ];
    html! {
        p.soft { "202 means that the event is stored. Otherwise, retry with the same ID: nothing is sent twice." }
        div.tabs {
            @for (place, (name, text)) in ways.iter().enumerate() {
                details name="code" open[place == 0] {
                    summary { (name) }
                    pre { code { (text) } }
                    button.copy type="button" data-copies=(text) { "Copy" }
                }
            }
        }
    }
}
