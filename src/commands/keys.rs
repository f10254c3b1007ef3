//! `confhot keys`

use confhot::kv::Pattern;
use serde_json::json;

use super::{Outcome, Session};

/// List what is in the bucket
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  confhot keys
  confhot keys 'billing.*'     # one token in place of *
  confhot keys 'billing.>'     # one token or more in place of >
  confhot keys '_schema.>'     # the schemas, which are listed only when they are asked for

With --format json, a line a key: {\"key\",\"revision\",\"format\",\"size\",\"created\"}; `size` is in bytes.
Deleted keys are not listed.

Exit codes:
  0  also where nothing matches
  1  there is no such bucket
  2  trouble")]
pub(crate) struct Args {
    /// Which keys: a key, or one with `*` for a token and `>` for the rest
    #[arg(default_value = ">", hide_default_value = true, value_parser = Pattern::parse)]
    pattern: Pattern,
}

pub(crate) async fn run(session: &Session, args: Args) -> anyhow::Result<Outcome> {
    let bucket = session.bucket().await?;
    let mut keys = bucket.keys(&args.pattern).await?;
    keys.sort_by(|a, b| a.key.cmp(&b.key));
    if session.out.is_json() {
        for entry in &keys {
            session.out.json(&json!({
                "key": entry.key, "revision": entry.revision, "format": entry.provenance.format,
                "size": entry.size, "created": entry.created,
            }))?;
        }
    } else if keys.is_empty() {
        session.out.note(&format!("no key in {} matches {}", bucket.name(), args.pattern.as_str()));
    } else {
        let rows: Vec<_> = keys
            .iter()
            .map(|entry| {
                let format = entry.provenance.format.map_or("-".into(), |format| format.to_string());
                let created = format!("{:.0}", entry.created);
                [entry.key.to_string(), entry.revision.to_string(), format, entry.size.to_string(), created]
            })
            .collect();
        session.out.table(&["KEY", "REVISION", "FORMAT", "SIZE", "CREATED"], &rows)?;
    }
    Ok(Outcome::Yes)
}
