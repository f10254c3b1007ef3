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
    match format {
        Format::Toml | Format::Json => place(text.as_bytes(), span(text, format, path)?.start),
        Format::Yaml => in_yaml(text, path),
    }
}

/// Where the value at `path` is written, as [`locate`] finds it. In YAML, where only its start is told, to the end of
/// that line and of those that can belong to it.
pub(super) fn span(text: &str, format: Format, path: &[String]) -> Option<Range<usize>> {
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
            Some(offset..offset + found.get().len())
        }
        Format::Yaml => {
            // It ends a line in YAML, by which its lines are counted, and nowhere else.
            if text.replace("\r\n", "").contains('\r') {
                return None;
            }
            let (line, column) = in_yaml(text, path)?;
            let mut lines = text.split_inclusive('\n').skip(usize::try_from(line).ok()? - 1);
            let first = lines.next()?;
            let inside = first.char_indices().nth(usize::try_from(column).ok()? - 1).map_or(first.len(), |(at, _)| at);
            let indent = |line: &str| line.len() - line.trim_start().len();
            // What goes on is further in than the line with the key, or as far as a first line without one.
            let least = if inside == indent(first) { inside } else { indent(first) + 1 };
            let start = (first.as_ptr() as usize).checked_sub(text.as_ptr() as usize)?;
            let mut end = start + first.trim_end().len();
            let mut after = start + first.len();
            for line in lines {
                if !line.trim().is_empty() {
                    if indent(line) < least {
                        break;
                    }
                    end = after + line.trim_end().len();
                }
                after += line.len();
            }
            Some(start + inside..end.max(start + inside))
        }
    }
}

fn in_yaml(text: &str, path: &[String]) -> Option<(u32, u32)> {
    if path.is_empty() {
        return None;
    }
    let found = serde_saphyr::with_deserializer_from_str_with_options(text, yaml_options(), |document| {
        Follow::<serde_saphyr::Spanned<IgnoredAny>>::new(path).deserialize(document)
    });
    // Where it is written, not where an alias repeats it.
    let at = found.ok()??.defined;
    Some((u32::try_from(at.line()).ok()?, u32::try_from(at.column()).ok()?)).filter(|(line, _)| *line > 0)
}

fn in_toml(text: &str, path: &[String]) -> Option<Range<usize>> {
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
    Some(span)
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
