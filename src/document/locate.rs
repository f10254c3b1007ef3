//! Where in a text a value stands. Asked only of what is wrong, so the text is read again for it.

use std::marker::PhantomData;
use std::ops::Range;

use serde::de::{Deserialize, DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use toml::de::{DeTable, DeValue};

use super::Format;
use super::parse::{place, yaml_options};

/// Line and column (in characters, from 1) at which the value at `path` starts: its keys and indexes, from the top
/// level down. `None` where the format does not tell, and for the top level itself.
pub(super) fn locate(text: &str, format: Format, path: &[String]) -> Option<(u32, u32)> {
    if path.is_empty() {
        return None;
    }
    match format {
        Format::Toml => in_toml(text, path),
        Format::Json => {
            let mut document = serde_json::Deserializer::from_str(text);
            let found: &RawValue = Follow::new(path).deserialize(&mut document).ok()??;
            // It borrows from the text, so its place in memory is its place in the text.
            let offset = (found.get().as_ptr() as usize).checked_sub(text.as_ptr() as usize)?;
            place(text.as_bytes(), offset)
        }
        Format::Yaml => {
            let found = serde_saphyr::with_deserializer_from_str_with_options(text, yaml_options(), |document| {
                Follow::<serde_saphyr::Spanned<IgnoredAny>>::new(path).deserialize(document)
            });
            // Where it is written, not where an alias repeats it.
            let at = found.ok()??.defined;
            Some((u32::try_from(at.line()).ok()?, u32::try_from(at.column()).ok()?)).filter(|(line, _)| *line > 0)
        }
    }
}

fn in_toml(text: &str, path: &[String]) -> Option<(u32, u32)> {
    let top = DeTable::parse(text).ok()?;
    let (first, rest) = path.split_first()?;
    let (mut span, mut value) = entry(top.get_ref(), first)?;
    for step in rest {
        (span, value) = match value {
            DeValue::Table(table) => entry(table, step)?,
            DeValue::Array(items) => {
                let item = items.get(step.parse::<usize>().ok()?)?;
                (item.span(), item.get_ref())
            }
            _ => return None,
        };
    }
    place(text.as_bytes(), span.start)
}

fn entry<'t, 'i>(table: &'t DeTable<'i>, key: &str) -> Option<(Range<usize>, &'t DeValue<'i>)> {
    let (key, value) = table.iter().find(|(known, _)| *known.get_ref() == key)?;
    // A table is where it is named first: what belongs to it may stand in several places.
    let table = matches!(value.get_ref(), DeValue::Table(_));
    Some((if table { key.span() } else { value.span() }, value.get_ref()))
}

/// Reads past everything but what `path` leads to, and takes that as a `T`.
struct Follow<'p, T> {
    path: &'p [String],
    found: PhantomData<T>,
}

impl<'p, T> Follow<'p, T> {
    fn new(path: &'p [String]) -> Self {
        Follow { path, found: PhantomData }
    }
}

impl<'de, T: Deserialize<'de>> DeserializeSeed<'de> for Follow<'_, T> {
    type Value = Option<T>;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Option<T>, D::Error> {
        if self.path.is_empty() { T::deserialize(deserializer).map(Some) } else { deserializer.deserialize_any(self) }
    }
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for Follow<'_, T> {
    type Value = Option<T>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a table or an array")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Option<T>, A::Error> {
        let mut found = None;
        while let Some(key) = entries.next_key::<String>()? {
            if key == self.path[0] {
                found = entries.next_value_seed(Follow::new(&self.path[1..]))?;
            } else {
                entries.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Option<T>, A::Error> {
        let mut found = None;
        let wanted = self.path[0].parse::<usize>().ok();
        for index in 0.. {
            let item = if wanted == Some(index) {
                items.next_element_seed(Follow::new(&self.path[1..]))?.map(|item| found = item)
            } else {
                items.next_element::<IgnoredAny>()?.map(drop)
            };
            if item.is_none() {
                break;
            }
        }
        Ok(found)
    }
}
