//! How often a check asks the places of a schema, where they refer to each other: forty that each refer twice to the next are
//! asked a million million times, by a schema of 3 KB.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::percent_decoded;

/// A check that asks more often than that takes seconds, and is not begun.
const MOST: u64 = 1 << 26;

/// To tell what is wrong takes a hundred times as long, and remembers nothing: so often at least, and [`AGAIN`] times of each.
const MOST_TOLD: u64 = 1 << 16;
const AGAIN: u64 = 64;

/// With fewer references than that no check comes to [`MOST`], but in a circle, of which the library remembers what it found:
/// the product of how often each level refers to the next is under a million then.
const FEW: usize = 38;

/// What of a schema its references make asked again.
#[derive(Debug)]
pub(super) struct Repeats {
    root: Value,
    references: usize,
}

impl Repeats {
    /// None where it has no references.
    pub(super) fn of(schema: &Value) -> Option<Repeats> {
        let references = references(schema);
        (references > 0).then(|| Repeats { root: schema.clone(), references })
    }

    /// Whether a check of `value` may take for ever.
    pub(super) fn are_endless(&self, value: &Value) -> bool {
        self.references >= FEW && self.asked(value).times > MOST
    }

    /// Whether to tell what is wrong with `value` may.
    pub(super) fn are_too_many_to_tell(&self, value: &Value) -> bool {
        let asked = self.asked(value);
        asked.times > MOST_TOLD.max(AGAIN * asked.places)
    }

    fn asked(&self, value: &Value) -> Asked<'_> {
        let mut resources = vec![&self.root];
        embedded(&self.root, &mut resources);
        let mut asked = Asked { resources, beside: HashMap::new(), times: 0, places: 0 };
        asked.ask(vec![(&self.root, 1)], value);
        asked
    }
}

struct Asked<'s> {
    /// Where a reference may begin: the schema, and what in it has an `$id`.
    resources: Vec<&'s Value>,
    /// What each place asks of the same value.
    beside: HashMap<*const Value, Vec<&'s Value>>,
    times: u64,
    /// Of each value, however often.
    places: u64,
}

impl<'s> Asked<'s> {
    /// Counts what `first`, each so many times, ask of `value` and of what is in it.
    fn ask(&mut self, first: Vec<(&'s Value, u64)>, value: &Value) {
        let mut all = Times::default();
        let mut next = Times::of(first);
        // A way that is longer than there are places goes in a circle, which the library leaves.
        let mut steps = 0;
        while !next.0.is_empty() && steps <= all.0.len() {
            steps += 1;
            for (schema, times) in std::mem::take(&mut next).0.into_values() {
                all.add(schema, times);
                self.times = self.times.saturating_add(times);
                if self.times > MOST {
                    return;
                }
                // To know what was not looked at, it looks again.
                let looks = ["unevaluatedProperties", "unevaluatedItems"].iter().any(|word| schema.get(word).is_some());
                for other in self.beside(schema) {
                    next.add(other, times.saturating_mul(1 + u64::from(looks)));
                }
            }
        }
        self.places += all.0.len() as u64;
        let all: Vec<_> = all.0.into_values().filter_map(|(it, times)| Some((it.as_object()?, times))).collect();
        match value {
            Value::Object(fields) => {
                for (name, field) in fields {
                    self.below(&all, field, |schema| of_field(schema, name));
                    self.below(&all, &Value::Null, |schema| schema.get("propertyNames").into_iter().collect());
                }
            }
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    self.below(&all, item, |schema| of_item(schema, index));
                }
            }
            _ => {}
        }
    }

    fn below(
        &mut self,
        all: &[(&'s Map<String, Value>, u64)],
        value: &Value,
        of: impl Fn(&'s Map<String, Value>) -> Vec<&'s Value>,
    ) {
        let below: Vec<_> =
            all.iter().flat_map(|(schema, times)| of(schema).into_iter().map(|it| (it, *times))).collect();
        if !below.is_empty() && self.times <= MOST {
            self.ask(below, value);
        }
    }

    fn beside(&mut self, schema: &'s Value) -> Vec<&'s Value> {
        let resources = &self.resources;
        self.beside.entry(std::ptr::from_ref(schema)).or_insert_with(|| beside(resources, schema)).clone()
    }
}

/// Places of a schema, and how many times each.
#[derive(Default)]
struct Times<'s>(HashMap<*const Value, (&'s Value, u64)>);

impl<'s> Times<'s> {
    fn of(places: Vec<(&'s Value, u64)>) -> Times<'s> {
        let mut all = Times::default();
        places.into_iter().for_each(|(schema, times)| all.add(schema, times));
        all
    }

    fn add(&mut self, schema: &'s Value, times: u64) {
        let (_, sum) = self.0.entry(std::ptr::from_ref(schema)).or_insert((schema, 0));
        *sum = sum.saturating_add(times);
    }
}

/// What `schema` asks of the value that it is asked of.
fn beside<'s>(resources: &[&'s Value], schema: &'s Value) -> Vec<&'s Value> {
    let Some(schema) = schema.as_object() else { return Vec::new() };
    let refer = REFERENCES.iter().filter_map(|word| schema.get(*word)?.as_str());
    let lists = ["allOf", "anyOf", "oneOf"].into_iter().filter_map(|word| schema.get(word)?.as_array()).flatten();
    let each = ["not", "if", "then", "else"].into_iter().filter_map(|word| schema.get(word));
    let dependent = ["dependentSchemas", "dependencies"].into_iter().filter_map(|word| schema.get(word)?.as_object());
    refer.flat_map(|to| led_to(resources, to)).chain(lists).chain(each).chain(dependent.flat_map(Map::values)).collect()
}

const REFERENCES: [&str; 3] = ["$ref", "$dynamicRef", "$recursiveRef"];

/// Where a reference may lead: of several, to all.
fn led_to<'s>(resources: &[&'s Value], to: &str) -> Vec<&'s Value> {
    let (_, fragment) = to.split_once('#').unwrap_or((to, ""));
    if fragment.is_empty() || fragment.starts_with('/') {
        let pointer = percent_decoded(fragment);
        return resources.iter().filter_map(|resource| resource.pointer(&pointer)).collect();
    }
    let is =
        |it: &Value| ["$anchor", "$dynamicAnchor"].iter().any(|word| it.get(word).is_some_and(|it| it == fragment));
    let mut found = Vec::new();
    each_below(resources[0], &mut |it| {
        if is(it) {
            found.push(it);
        }
    });
    found
}

fn embedded<'s>(root: &'s Value, resources: &mut Vec<&'s Value>) {
    each_below(root, &mut |it| {
        if it.get("$id").is_some_and(Value::is_string) && !std::ptr::eq(it, root) {
            resources.push(it);
        }
    });
}

fn references(schema: &Value) -> usize {
    let mut count = 0;
    each_below(schema, &mut |it| count += REFERENCES.iter().filter(|word| it.get(**word).is_some()).count());
    count
}

/// Calls `each` with `value` and all that is in it.
fn each_below<'s>(value: &'s Value, each: &mut impl FnMut(&'s Value)) {
    each(value);
    match value {
        Value::Object(fields) => fields.values().for_each(|below| each_below(below, each)),
        Value::Array(items) => items.iter().for_each(|below| each_below(below, each)),
        _ => {}
    }
}

fn of_field<'s>(schema: &'s Map<String, Value>, name: &str) -> Vec<&'s Value> {
    let table = |word: &str| schema.get(word).and_then(Value::as_object);
    let known = table("properties").and_then(|known| known.get(name));
    let rest = ["additionalProperties", "unevaluatedProperties"].into_iter().filter_map(|word| schema.get(word));
    // Which of the patterns match is not asked.
    let patterns = table("patternProperties").into_iter().flat_map(Map::values);
    match known {
        Some(known) => patterns.chain([known]).collect(),
        None => patterns.chain(rest).collect(),
    }
}

fn of_item(schema: &Map<String, Value>, index: usize) -> Vec<&Value> {
    let listed = |word: &str| schema.get(word).and_then(Value::as_array).and_then(|listed| listed.get(index));
    let rest = ["items", "additionalItems", "contains", "unevaluatedItems"].into_iter();
    let rest = rest.filter_map(|word| schema.get(word)).filter(|it| !it.is_array());
    listed("prefixItems").into_iter().chain(listed("items")).chain(rest).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// `levels` places, each of which makes `asks` of the next one twice.
    fn twice(levels: usize, asks: impl Fn(Value) -> Value) -> Value {
        let place = |n: usize| match n {
            0 => ("d0".to_owned(), json!({ "type": "object" })),
            n => (format!("d{n}"), asks(json!({ "$ref": format!("#/$defs/d{}", n - 1) }))),
        };
        let places: Map<_, _> = (0..levels).map(place).collect();
        json!({ "$defs": places, "$ref": format!("#/$defs/d{}", levels - 1) })
    }

    #[test]
    fn what_is_asked_again_and_again_is_counted_through_references_and_values() {
        let times = |schema: &Value, value: &Value| Repeats::of(schema).unwrap().asked(value).times;
        let beside = |n| twice(n, |next| json!({ "allOf": [next, next] }));
        // d0 8 times, what refers to it as often, and so on.
        assert_eq!(times(&beside(4), &json!({})), 1 + 1 + (2 + 2) + (4 + 4) + (8 + 8));
        let below = twice(4, |next| json!({ "properties": { "x": { "anyOf": [next, next] } } }));
        assert!(times(&below, &json!({})) < 5 && times(&below, &json!({ "x": { "x": { "x": 1 } } })) > 20);

        let deep = (0..70).fold(json!(1), |inner, _| json!({ "x": inner }));
        for endless in [
            beside(60),
            twice(60, |next| json!({ "properties": { "x": { "oneOf": [next, next] } } })),
            twice(60, |next| json!({ "if": next, "then": next })),
            twice(60, |next| json!({ "additionalProperties": { "not": { "allOf": [next, { "not": next }] } } })),
        ] {
            assert!(Repeats::of(&endless).unwrap().are_endless(&deep), "{endless}");
        }
    }

    #[test]
    fn honest_references_are_neither_endless_nor_too_many_to_tell() {
        let leaf = json!({ "type": "object", "properties": { "port": { "$ref": "#/$defs/port" } } });
        let mut schema = json!({ "$defs": { "port": { "type": "integer" }, "leaf": leaf, "tree": {
            "anyOf": [{ "$ref": "#/$defs/leaf" }, { "properties": { "below": { "type": "array", "items": { "$ref": "#/$defs/tree" } } } }]
        } } });
        schema["properties"] =
            (0..60).map(|n| (format!("k{n}"), json!({ "$ref": "#/$defs/leaf" }))).collect::<Map<_, _>>().into();
        schema["additionalProperties"] = json!({ "$ref": "#/$defs/tree" });
        let many: Vec<_> = (0..20_000).map(|n| json!({ "port": n })).collect();
        let deep = (0..30).fold(json!({ "below": many }), |inner, _| json!({ "below": [inner, { "port": 1 }] }));
        let value = json!({ "k1": { "port": 1 }, "tree": deep });

        let repeats = Repeats::of(&schema).unwrap();
        assert!(!repeats.are_endless(&value) && !repeats.are_too_many_to_tell(&value));
        assert!(Repeats::of(&json!({ "$ref": "#" })).unwrap().asked(&value).times < 5, "a circle is left");
    }
}
