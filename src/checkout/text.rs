//! What git's small files and its answers say (gitrepository-layout(5), git-ls-tree(1), git-config(1)).

/// The repository that a `.git` which is a file points to.
pub(crate) fn pointed(pointer: &str) -> Option<&str> {
    Some(pointer.strip_prefix("gitdir: ")?.trim_end())
}

/// The ref that a symbolic one, `HEAD` most often, leads to.
pub(crate) fn referred(content: &str) -> Option<&str> {
    content.trim_end().strip_prefix("ref: ")
}

/// The id that a ref's file holds.
pub(crate) fn id(content: &str) -> Option<&str> {
    let id = content.trim_end();
    (matches!(id.len(), 40 | 64) && id.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(id)
}

/// The id of the ref `name`, from `packed-refs`.
pub(crate) fn packed<'a>(refs: &'a str, name: &str) -> Option<&'a str> {
    refs.lines().find_map(|line| line.strip_suffix(name)?.strip_suffix(' '))
}

/// Path and id of each file, from `<mode> <type> <id>\t<path>\0`….
pub(crate) fn files(listing: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    listing.split(|byte| *byte == 0).filter_map(|entry| {
        let tab = entry.iter().position(|byte| *byte == b'\t')?;
        let id = entry[..tab].rsplit(|byte| *byte == b' ').next()?;
        Some((&entry[tab + 1..], id))
    })
}

/// From `git config -z`: `<name>\n<value>\0…`; where a variable is set more than once, the last one counts.
pub(crate) fn setting(config: &str, variable: &str) -> Option<String> {
    let mut values = config.split('\0').filter_map(|entry| entry.split_once('\n'));
    let (_, value) = values.rfind(|(key, _)| *key == variable)?;
    // It goes into one line of a header.
    let value: String = value.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    Some(value.trim().to_owned()).filter(|value| !value.is_empty())
}

/// `user.name <user.email>` of the same, or the one of both that is set.
pub(crate) fn author(config: &str) -> Option<String> {
    match (setting(config, "user.name"), setting(config, "user.email")) {
        (Some(name), Some(email)) => Some(format!("{name} <{email}>")),
        (name, email) => name.or(email),
    }
}
