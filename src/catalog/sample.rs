//! The sample catalog: a shop's, embedded in the binary. `herald dev` starts with it.

use super::files::Files;

macro_rules! sample_files {
    ($($path:literal),* $(,)?) => {
        [$(($path, include_str!(concat!("sample/", $path)))),*]
    };
}

/// The sample catalog's files.
pub fn files() -> Files {
    let files = sample_files![
        "events/order.shipped/event.toml",
        "events/order.shipped/schema.json",
        "events/order.shipped/samples/dhl.json",
        "events/password.reset/event.toml",
        "events/password.reset/schema.json",
        "events/password.reset/samples/code.json",
        "events/payment.failed/event.toml",
        "events/payment.failed/schema.json",
        "events/payment.failed/samples/card.json",
        "events/subscription.renewal_due/event.toml",
        "events/subscription.renewal_due/schema.json",
        "events/subscription.renewal_due/samples/yearly.json",
        "events/product.restocked/event.toml",
        "events/product.restocked/schema.json",
        "events/product.restocked/samples/lamp.json",
        "templates/order-shipped-push/template.toml",
        "templates/order-shipped-push/push.en.liquid",
        "templates/order-shipped-push/push.de.liquid",
        "templates/order-shipped-email/template.toml",
        "templates/order-shipped-email/email.en.liquid",
        "templates/order-shipped-email/email.de.liquid",
        "templates/password-reset-email/template.toml",
        "templates/password-reset-email/email.en.liquid",
        "templates/payment-failed-sms/template.toml",
        "templates/payment-failed-sms/sms.en.liquid",
        "templates/renewal-due-push/template.toml",
        "templates/renewal-due-push/push.en.liquid",
        "templates/restock-push/template.toml",
        "templates/restock-push/push.en.liquid",
        "rules/order-shipped-push.toml",
        "rules/order-shipped-email.toml",
        "rules/password-reset-email.toml",
        "rules/payment-failed-sms.toml",
        "rules/renewal-due-push.toml",
        "rules/restock-push.toml",
    ];
    files.into_iter().map(|(path, text)| (path.to_owned(), text.to_owned())).collect()
}

/// An event of the sample catalog, ready to be posted under this id to `user-42`.
pub fn order_shipped(id: &str, eta: &str) -> serde_json::Value {
    serde_json::json!({
        "id": id,
        "type": "order.shipped",
        "recipient": {"external_id": "user-42"},
        "data": {"order_id": "1001", "carrier": "DHL", "eta": eta, "name": "Anna"},
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::files::check;

    #[test]
    fn nothing_is_wrong_with_the_sample_catalog() {
        assert_eq!(check(&files(), &crate::domain::budget::Budget::default()), []);
    }
}
