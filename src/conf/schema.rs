//! The table of keys as a JSON schema, so that editors complete and check the file.

use serde_json::{Map, Value, json};

use super::key::{Kind, ROOT, Section, sections};

/// The schema (draft 2020-12) as text.
#[must_use]
pub fn schema() -> String {
    let mut defs = Map::new();
    for section in sections().into_iter().filter(|s| !s.path.is_empty()) {
        defs.insert(name(section), object(section));
    }
    let mut root = object(&ROOT);
    if let Some(fields) = root.as_object_mut() {
        fields.insert(
            "$schema".to_owned(),
            json!("https://json-schema.org/draft/2020-12/schema"),
        );
        fields.insert("title".to_owned(), json!("proxyd.toml"));
        fields.insert("$defs".to_owned(), Value::Object(defs));
    }
    let mut text = serde_json::to_string_pretty(&root).unwrap_or_default();
    text.push('\n');
    text
}

fn name(section: &Section) -> String {
    section.path.to_owned()
}

fn object(section: &Section) -> Value {
    let mut properties = Map::new();
    for key in section.keys {
        let mut value = kind(&key.kind);
        if let Some(fields) = value.as_object_mut() {
            fields.insert("description".to_owned(), json!(key.doc));
        }
        properties.insert(key.name.to_owned(), value);
    }
    let required: Vec<&str> = section
        .keys
        .iter()
        .filter(|k| k.required)
        .map(|k| k.name)
        .collect();
    let mut value = json!({
        "type": "object",
        "description": section.doc,
        "additionalProperties": false,
        "properties": properties,
    });
    if !required.is_empty() {
        value["required"] = json!(required);
    }
    value
}

fn kind(kind_of: &Kind) -> Value {
    match kind_of {
        Kind::Bool => json!({ "type": "boolean" }),
        Kind::Int(min, max) => json!({ "type": "integer", "minimum": min, "maximum": max }),
        Kind::Share => json!({ "type": "number", "minimum": 0, "maximum": 1 }),
        Kind::Word(words) => json!({ "enum": words }),
        Kind::Duration(_) => json!({
            "type": "string",
            "pattern": "^([0-9_]+ *(ms|s|m|h|d)|0)$|[$][{]",
            "examples": ["5s"],
        }),
        Kind::Size(..) => json!({
            "type": "string",
            "pattern": "^([0-9_]+ *(B|b|KiB|k|K|MiB|m|M|GiB|g|G|KB|kB|MB|GB)|0)$|[$][{]",
            "examples": ["16KiB"],
        }),
        Kind::Percent => json!({ "type": "string", "pattern": "^[0-9]+%$|[$][{]" }),
        Kind::Mode => json!({ "type": "string", "pattern": "^[0-7]{3,4}$|[$][{]" }),
        Kind::Text
        | Kind::ByteRate
        | Kind::Path
        | Kind::Name
        | Kind::Bind
        | Kind::Server
        | Kind::Socket
        | Kind::Ip
        | Kind::Special(..) => json!({ "type": "string" }),
        Kind::List(inner) => json!({ "type": "array", "items": kind(inner) }),
        Kind::Many(inner) => json!({
            "anyOf": [kind(inner), { "type": "array", "items": kind(inner) }],
        }),
        Kind::Map(_, inner) => json!({ "type": "object", "additionalProperties": kind(inner) }),
        Kind::Table(section) => json!({ "$ref": format!("#/$defs/{}", name(section)) }),
        Kind::Forms(forms) => {
            let all: Vec<Value> = forms.iter().map(kind).collect();
            json!({ "anyOf": all })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_is_json_and_its_references_resolve() {
        let schema: Value = serde_json::from_str(&schema()).unwrap();
        let defs = schema["$defs"].as_object().unwrap();
        let text = schema.to_string();
        for part in text.split("#/$defs/").skip(1) {
            let name = part.split('"').next().unwrap();
            assert!(defs.contains_key(name), "{name}");
        }
        assert_eq!(schema["properties"]["listener"]["type"], "array");
        assert_eq!(defs["listener"]["required"], json!(["bind"]));
        assert_eq!(defs["listener"]["additionalProperties"], json!(false));
    }
}
