//! Sensitive values: cut out of `data` before it is stored, put back before it is rendered.

use serde_json::{Map, Value};

use super::Pipeline;
use crate::domain::event::EventTypeName;
pub use crate::domain::event::MASK;
use crate::store::StoreError;

impl Pipeline {
    /// Whether events of this type hold sensitive values.
    ///
    /// # Errors
    /// [`StoreError`] when the catalog can't be read; trying again helps.
    pub async fn has_sensitive_values(&self, event_type: &EventTypeName) -> Result<bool, StoreError> {
        let catalog = self.catalog.get(&self.store).await?;
        Ok(catalog.event_type(event_type).is_some_and(|known| !known.entry.sensitive.is_empty()))
    }
}

/// Cuts the values at `pointers` out of `data` and returns them by pointer. What is not there is not returned.
pub fn cut(data: &mut Value, pointers: &[String]) -> Map<String, Value> {
    let mut values = Map::new();
    for pointer in pointers {
        if let Some(place) = data.pointer_mut(pointer) {
            values.insert(pointer.clone(), std::mem::replace(place, Value::String(MASK.to_owned())));
        }
    }
    values
}

/// Puts values back where they were cut out.
pub fn restore(data: &mut Value, values: Map<String, Value>) {
    for (pointer, value) in values {
        if let Some(place) = data.pointer_mut(&pointer) {
            *place = value;
        }
    }
}

/// Lays values that a person gave over `data`, member by member.
pub fn overlay(data: &mut Value, given: Value) {
    match (data, given) {
        (Value::Object(into), Value::Object(given)) => {
            for (name, value) in given {
                overlay(into.entry(name).or_insert(Value::Null), value);
            }
        }
        (place, value) => *place = value,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_cut_out_leaves_a_mask_and_comes_back_unchanged() {
        let original = json!({"code": "314159", "user": {"phone": "1"}, "other": [1, 2]});
        let mut data = original.clone();
        let values = cut(&mut data, &["/code".into(), "/user/phone".into(), "/missing".into()]);
        assert_eq!(data, json!({"code": MASK, "user": {"phone": MASK}, "other": [1, 2]}));
        restore(&mut data, values);
        assert_eq!(data, original);
    }

    #[test]
    fn given_values_are_laid_over_the_event_member_by_member() {
        let mut data = json!({"order": {"id": "1"}});
        overlay(&mut data, json!({"order": {"eta": "soon"}, "name": "Ann"}));
        assert_eq!(data, json!({"order": {"id": "1", "eta": "soon"}, "name": "Ann"}));
    }
}
