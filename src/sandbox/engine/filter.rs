//! The `filters` of list requests: `{"name":["web"]}`, or `{"name":{"web":true}}` as older clients write.
//!
//! Must not: fail on a filter that it does not know; Docker refuses those, and so does [`Filters::known`].

use std::collections::BTreeMap;

use serde_json::Value;

use super::world::Refusal;

#[derive(Debug, Default)]
pub struct Filters(BTreeMap<String, Vec<String>>);

impl Filters {
    pub fn parse(text: Option<&String>) -> Result<Self, Refusal> {
        let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(Self::default()) };
        let invalid = || Refusal::new(400, format!("invalid filter '{text}'"));
        let value: Value = serde_json::from_str(text).map_err(|_| invalid())?;
        let mut filters = BTreeMap::new();
        for (key, values) in value.as_object().ok_or_else(invalid)? {
            let values = match values {
                Value::Array(list) => list.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
                Value::Object(map) => map.keys().cloned().collect(),
                _ => return Err(invalid()),
            };
            filters.insert(key.clone(), values);
        }
        Ok(Self(filters))
    }

    /// Refuses keys that the list does not know.
    pub fn known(self, keys: &[&str]) -> Result<Self, Refusal> {
        match self.0.keys().find(|key| !keys.contains(&key.as_str())) {
            Some(key) => Err(Refusal::new(400, format!("invalid filter '{key}'"))),
            None => Ok(self),
        }
    }

    pub fn values(&self, key: &str) -> &[String] {
        self.0.get(key).map_or(&[], Vec::as_slice)
    }

    /// True without that filter, or if one of its values fits.
    pub fn any(&self, key: &str, fits: impl Fn(&str) -> bool) -> bool {
        let values = self.values(key);
        values.is_empty() || values.iter().any(|value| fits(value))
    }

    /// Labels must all fit: `key` or `key=value`.
    pub fn labels(&self, key: &str, labels: Option<&Value>) -> bool {
        self.values(key).iter().all(|wanted| {
            let (name, value) = wanted.split_once('=').map_or((wanted.as_str(), None), |(k, v)| (k, Some(v)));
            let label = labels.and_then(|labels| labels.get(name)).and_then(Value::as_str);
            label.is_some_and(|label| value.is_none_or(|value| value == label))
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn filters(text: &str) -> Filters {
        Filters::parse(Some(&text.to_owned())).expect("a filter")
    }

    #[test]
    fn both_ways_to_write_a_filter_are_read() {
        for text in [r#"{"name":["web","api"]}"#, r#"{"name":{"api":true,"web":true}}"#] {
            let mut values = filters(text).values("name").to_vec();
            values.sort();
            assert_eq!(values, ["api", "web"]);
        }
        assert!(Filters::parse(Some(&"[1]".to_owned())).is_err());
        assert!(filters(r#"{"colour":["red"]}"#).known(&["name"]).is_err());
    }

    #[test]
    fn labels_must_all_fit() {
        let labels = json!({"env": "prod", "run": "R-1"});
        assert!(filters(r#"{"label":["env=prod","run"]}"#).labels("label", Some(&labels)));
        assert!(!filters(r#"{"label":["env=prod","run=R-2"]}"#).labels("label", Some(&labels)));
    }
}
