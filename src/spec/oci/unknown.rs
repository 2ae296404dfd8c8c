//! Parts of a configuration that the model of it does not know. "Runtimes … MUST NOT generate an error if they encounter an
//! unknown property" (runtime-spec, "Extensibility"); but whoever misspelt one wants to know.

use serde_json::Value;

/// The paths of all keys in `given` that are not in `known`, which is the same after it went through the model. A key
/// without a value says nothing.
pub(super) fn keys(given: &Value, known: &Value) -> Vec<String> {
    let mut found = Vec::new();
    compare("", given, known, &mut found);
    found
}

fn compare(path: &str, given: &Value, known: &Value, found: &mut Vec<String>) {
    match (given, known) {
        (Value::Object(given), Value::Object(known)) => {
            for (key, value) in given.iter().filter(|(_, value)| !value.is_null()) {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                match known.get(key) {
                    Some(known) => compare(&path, value, known, found),
                    None => found.push(path),
                }
            }
        }
        (Value::Array(given), Value::Array(known)) => {
            for (index, (given, known)) in given.iter().zip(known).enumerate() {
                compare(&format!("{path}[{index}]"), given, known, found);
            }
        }
        // The model may write a value differently, but not lose it.
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lost_on_the_way_is_found_by_its_path() {
        let given = serde_json::json!({
            "a": {"b": 1, "c": null, "d": [{"e": 1}, {"e": 2, "f": 3}]}, "g": {"h": {}}, "i": "x"
        });
        let known = serde_json::json!({"a": {"b": "1", "d": [{"e": 1}, {"e": 2}]}, "i": "y", "j": 1});
        assert_eq!(keys(&given, &known), ["a.d[1].f", "g"]);
        assert!(keys(&given, &given).is_empty());
    }
}
