//! Contexts of the `nats` CLI: `nats/context/<name>.json` below the user's configuration directory, and the name of the
//! selected one in `nats/context.txt` (natscontext of jsm.go).

mod text;

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context as _, bail};

pub(super) use self::text::Context;
use crate::commands::{is_alike, nearest};

impl Context {
    /// The context called `name`.
    pub(super) fn load(config_home: &Path, name: &str, home: Option<&Path>) -> anyhow::Result<Context> {
        let dir = config_home.join("nats/context");
        if name.contains(['/', '\\']) || name.contains("..") {
            bail!("`{}` cannot be the name of a context", name.escape_debug());
        }
        let file = dir.join(format!("{name}.json"));
        let text = match fs::read_to_string(&file) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let names = fs::read_dir(&dir).into_iter().flatten().flatten();
                let names = names.filter_map(|file| Some(file.file_name().to_str()?.strip_suffix(".json")?.to_owned()));
                match nearest(name, names).filter(|near| is_alike(name, near)) {
                    Some(near) => bail!("there is no context `{name}`, but `{near}`"),
                    None => bail!("there is no context `{name}` in {}", dir.display()),
                }
            }
            text => text.with_context(|| format!("cannot read {}", file.display()))?,
        };
        Context::parse(&text, home).with_context(|| format!("cannot follow the context in {}", file.display()))
    }

    /// The selected context, if one is.
    pub(super) fn selected(config_home: &Path, home: Option<&Path>) -> anyhow::Result<Option<Context>> {
        let file = config_home.join("nats/context.txt");
        match fs::read_to_string(&file) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            text => match text.with_context(|| format!("cannot read {}", file.display()))?.trim() {
                "" => Ok(None),
                name => Context::load(config_home, name, home).map(Some),
            },
        }
    }
}
