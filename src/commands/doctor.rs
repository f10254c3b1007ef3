//! `confhot doctor`: what stands between this user, on this machine, and its job.

mod machine;
mod report;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::ensure;
use confhot::kv::{Bucket, BucketError, Key, Permissions, Role};
use jiff::{SignedDuration, Timestamp};

use self::report::Report;
use super::acl::RoleName;
use super::{Outcome, Session, hint};

/// Check connection, server, bucket, permissions and this machine, and say what to do
///
/// Changes nothing, and reads no document. Connects as every other verb does.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  confhot doctor
  confhot doctor --role service --name service1 --creds service1.creds
  confhot doctor --role loader --dir configs
  confhot doctor --format json | jq -r 'select(.level != \"ok\")'

Without --role, what this user may not ask is a warning. With it, each permission that the role needs is tried, and it is
said if the user may do more: `confhot acl` prints the least.

Checks: connection, server, jetstream, bucket, records (what instances tell of themselves), permissions, clock, durability,
and, for a loader, inotify. How often the server syncs to disk is not told to clients, so that durability is a warning
wherever confhot did not start the server itself.

With --format json, a line a check: {\"check\",\"level\":\"ok\"|\"warn\"|\"fail\",\"text\",\"remedy\"}. A check may have several.

Exit codes:
  0  nothing fails; there may be warnings
  1  something fails
  2  trouble: usage, no connection")]
pub(crate) struct Args {
    /// What this user is for
    #[arg(long, value_enum)]
    role: Option<RoleName>,
    /// A key that the service follows; may be given several times
    #[arg(long, value_name = "KEY", required_if_eq("role", "service"))]
    name: Vec<Key>,
    /// The directory that a loader is to watch: whether the kernel can
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

pub(crate) async fn run(session: &Session, args: Args) -> anyhow::Result<Outcome> {
    ensure!(args.role.is_some() || args.name.is_empty(), "--name goes with --role service");
    let role = args.role.map(|role| role.of(&args.name)).transpose()?;
    let role = role.as_ref();
    let mut report = Report::to(&session.out);
    let since = Instant::now();
    let bucket = match session.bucket().await {
        Ok(bucket) => bucket,
        Err(error) => {
            let text = without_repetition(&error);
            report.fail("connection", &text, hint(&error).as_deref())?;
            return Err(error);
        }
    };
    let connection = bucket.connection();
    let ms = since.elapsed().as_millis();
    report.ok("connection", &format!("{}, made in {ms} ms", connection.servers()))?;
    let version = connection.version().unwrap_or_default();
    report.ok("server", &format!("nats-server {version}"))?;
    jetstream(&mut report, &bucket, role).await?;
    let there = look_at_bucket(&mut report, &bucket, role).await?;
    look_at_records(&mut report, &bucket, role, there).await?;
    if let Some(role) = role {
        try_permissions(&mut report, &bucket, role).await?;
    }
    if there {
        clock(&mut report, &bucket).await?;
    }
    if role.is_none_or(|role| *role == Role::Loader) || args.dir.is_some() {
        machine::inotify(&mut report, args.dir.as_deref())?;
    }
    connection.clone().close().await;
    Ok(if report.failed() { Outcome::No } else { Outcome::Yes })
}

/// An error and its causes, in one line.
fn without_repetition(error: &anyhow::Error) -> String {
    let mut said = Vec::new();
    for cause in error.chain().map(ToString::to_string) {
        if !said.iter().any(|before: &String| before.contains(&cause)) {
            said.push(cause);
        }
    }
    said.join(": ")
}

async fn jetstream(report: &mut Report<'_>, bucket: &Bucket, role: Option<&Role>) -> anyhow::Result<()> {
    match bucket.api_level().await {
        Ok(level @ 2..) => report.ok("jetstream", &format!("API level {level}")),
        Ok(level) => report.warn(
            "jetstream",
            &format!("API level {level}: documents that are saved together are stored one after the other"),
            "nats-server 2.12 stores them as one",
        ),
        Err(error) => report.unanswered("jetstream", error, role),
    }
}

/// Whether there is one that this user may ask about.
async fn look_at_bucket(report: &mut Report<'_>, bucket: &Bucket, role: Option<&Role>) -> anyhow::Result<bool> {
    let name = bucket.name();
    match bucket.describe().await {
        Ok(told) => {
            let (revisions, last) = (told.revisions, told.last);
            report.ok("bucket", &format!("{name} is at revision {last} and keeps {revisions} of them"))?;
            let remedy = format!("change the stream KV_{name}, or let confhot make another bucket (--bucket)");
            for difference in &told.differences {
                report.warn("bucket", difference, &remedy)?;
            }
            if !told.atomic {
                report.warn(
                    "bucket",
                    "documents that are saved together are stored one after the other",
                    &format!("set allow_atomic on the stream KV_{name}, which takes nats-server 2.12"),
                )?;
            }
            let copies = if told.replicas == 1 { "one server".into() } else { format!("{} servers", told.replicas) };
            report.warn(
                "durability",
                &format!("kept by {copies}; whether a write is on disk when it is confirmed is not told to clients"),
                "set `sync_interval: always` in the `jetstream` block of the server, or know that a loss of power may \
                 take back what was confirmed up to two minutes before",
            )?;
            Ok(true)
        }
        Err(BucketError::Missing(_)) if role == Some(&Role::Loader) => {
            report.ok("bucket", &format!("there is no {name} yet, the loader makes it")).map(|()| false)
        }
        Err(error) => report.unanswered("bucket", error, role).map(|()| false),
    }
}

async fn look_at_records(
    report: &mut Report<'_>,
    bucket: &Bucket,
    role: Option<&Role>,
    there: bool,
) -> anyhow::Result<()> {
    let name = format!("{}_status", bucket.name());
    match bucket.record_differences().await {
        Ok(differences) => {
            if differences.is_empty() {
                report.ok("records", &format!("{name} is as confhot makes it"))?;
            }
            let remedy = format!(
                "delete the stream KV_{name}: the loader makes it again, within what the account may set aside"
            );
            differences.iter().try_for_each(|difference| report.warn("records", difference, &remedy))
        }
        Err(BucketError::Missing(_)) if !there => Ok(()),
        Err(BucketError::Missing(_)) => report.warn(
            "records",
            &format!("there is no {name}: `status` and --wait know of no instance"),
            "the loader makes it when it connects, and `put --wait` does",
        ),
        Err(error) => report.unanswered("records", error, role),
    }
}

/// Tries each permission that the role needs, and some that it does not.
async fn try_permissions(report: &mut Report<'_>, bucket: &Bucket, role: &Role) -> anyhow::Result<()> {
    const REMEDY: &str = "`confhot acl` prints what the role needs";
    let connection = bucket.connection();
    let of =
        |role: &Role, inbox_prefix: &str| Permissions::of(role, bucket.name(), connection.domain(), inbox_prefix, &[]);
    let needed = of(role, connection.inbox_prefix())?;
    let denied = match bucket.denied(&needed).await {
        Ok(denied) => denied,
        Err(error) => return report.unanswered("permissions", error, None),
    };
    for (subject, words) in &denied {
        let text = if subject.contains(['*', '>']) { format!("{words}, for {subject}") } else { words.clone() };
        report.fail("permissions", &text, Some(REMEDY))?;
    }
    if denied.iter().any(|(subject, _)| subject.starts_with(connection.inbox_prefix())) {
        // Without answers nothing else can be known.
        return Ok(());
    }
    let count = needed.publish.len() + needed.subscribe.len();
    if denied.is_empty() {
        report.ok("permissions", &format!("all {count} that the role needs"))?;
    }

    // What any other role may do, in a key and an inbox that are nobody's.
    let nobody = Role::Service(vec![Key::parse("doctor")?]);
    let mut more = of(&Role::Loader, "_INBOX_doctor")?;
    more.publish.extend(of(&nobody, "_INBOX_doctor")?.publish);
    more.publish.push(format!("confhot.live.{}.doctor", bucket.name()));
    more.publish.retain(|subject| !needed.publish.contains(subject));
    more.subscribe.retain(|subject| !needed.subscribe.contains(subject));
    if let Role::Loader | Role::Operator | Role::Inspector = role {
        // It reads every key anyway.
        more.publish.retain(|subject| !subject.contains(".DIRECT.GET.") && !subject.contains("CONSUMER.CREATE"));
        more.publish.retain(|subject| !needed.publish.iter().any(|own| covers(own, subject)));
    }
    let Ok(denied) = bucket.denied(&more).await else { return Ok(()) };
    let allowed = |subject: &&String| !denied.iter().any(|(it, _)| it == *subject);
    let excess: Vec<_> = more.publish.iter().chain(&more.subscribe).filter(allowed).collect();
    match excess.first() {
        None => Ok(()),
        Some(first) => {
            let text = format!("this user may do more: {} subjects beside, such as {first}", excess.len());
            report.warn("permissions", &text, REMEDY)
        }
    }
}

/// Whether `pattern` ends in `>` and matches what begins as it does.
fn covers(pattern: &str, subject: &str) -> bool {
    pattern.strip_suffix('>').is_some_and(|start| subject.starts_with(start))
}

/// Compares this machine's clock with the server's.
async fn clock(report: &mut Report<'_>, bucket: &Bucket) -> anyhow::Result<()> {
    const TOLERABLE: Duration = Duration::from_millis(500);
    let before = Timestamp::now();
    let server = match bucket.server_time().await {
        Ok(server) => server,
        Err(error) => return report.unanswered("clock", error, None),
    };
    let off = skew(before, server, Timestamp::now());
    let (ms, side) = (off.unsigned_abs().as_millis(), if off.is_positive() { "ahead" } else { "behind" });
    let text = format!("the server's clock is {ms} ms {side}");
    match off.unsigned_abs() {
        _ if ms == 0 => report.ok("clock", "as the server's"),
        off if off < TOLERABLE => report.ok("clock", &text),
        _ => report.warn("clock", &text, "synchronize the clocks: credentials that expire, and `ms`, go by them"),
    }
}

/// How far the server's clock is ahead at least, or behind: it was looked at between `before` and `after`.
fn skew(before: Timestamp, server: Timestamp, after: Timestamp) -> SignedDuration {
    let (ahead, behind) = (server.duration_since(after), server.duration_since(before));
    if ahead.is_positive() { ahead } else { behind.min(SignedDuration::ZERO) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_off_by_what_the_way_to_the_server_does_not_explain() {
        let at = |ms: i64| Timestamp::from_millisecond(1_000_000 + ms).unwrap();
        let off = |server: i64| skew(at(0), at(server), at(10)).as_millis();

        assert_eq!([off(0), off(5), off(10)], [0; 3]);
        assert_eq!([off(-3), off(17)], [-3, 7]);
    }

    #[test]
    fn causes_are_said_once() {
        let error = anyhow::anyhow!("refused").context("IO error: refused").context("cannot reach it");

        assert_eq!(without_repetition(&error), "cannot reach it: IO error: refused");
    }
}
