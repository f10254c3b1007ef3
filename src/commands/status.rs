//! `confhot status`

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use anstyle::Style;
use confhot::document::Digest;
use confhot::kv::{
    Bucket, BucketError, Called, Description, Entry, Heard, Key, Operation, Pattern, Revision, Roll, Standing, Status,
};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::signing::{self, Distrusted, Trusting};
use super::{Outcome, Session};
use crate::output::{Output, REMOVED, STRONG};

/// Which instance runs which revision, and which was rejected and why
///
/// Lists every live instance of every service, the newest problem first. An instance that died is gone within 15
/// seconds, one that was stopped at once. Right after a restart of the server it waits until all are back, six seconds at
/// most.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  confhot status
  confhot status service1
  confhot status --watch
  confhot status --format json | jq -r 'select(.state != \"applied\") | .instance'

States: `applied`, it serves the head; `rejected`, it refused the head and serves what it served before; `behind`, it
serves an older revision.

With --format json, a line an instance: {\"service\",\"instance\",\"host\",\"key\",\"revision\",\"head\",\"state\",\
\"reason\",\"since\",\"seen\",\"digest\",\"version\"}.
With --trust, where the head or what it runs is not trusted, also \"distrust\": why.
With --watch also a line whenever one of them changes; one that is gone has the state `gone`.

Exit codes:
  0  every live instance serves the head of its key; also where there is none
  1  some live instance lags or rejected; with --trust, a head, or what an instance runs, is not
     trusted
  2  trouble")]
pub(crate) struct Args {
    /// Only the instances that follow this key
    key: Option<Key>,
    /// Show it again whenever it changes
    #[arg(long)]
    pub(crate) watch: bool,
    #[command(flatten)]
    trusting: Trusting,
}

/// An instance, as JSON tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Line {
    service: String,
    instance: String,
    host: String,
    key: Key,
    revision: Option<Revision>,
    head: Option<Revision>,
    state: &'static str,
    reason: Option<String>,
    since: Timestamp,
    seen: Timestamp,
    digest: Option<Digest>,
    version: String,
    /// Why the head, or what it runs, is not trusted.
    #[serde(skip_serializing_if = "Option::is_none")]
    distrust: Option<String>,
}

impl Line {
    fn of(status: Status, head: Option<&Head>) -> Line {
        let state = standing(&status, head);
        let lost = head.zip(status.report.revision).filter(|(head, runs)| *runs > head.revision);
        let lost = lost.map(|(_, runs)| format!("it runs revision {runs}, which the bucket does not have any more"));
        let rejected = status.report.rejected.map(|refused| refused.reason);
        let reason = rejected.or(lost).filter(|_| state != Standing::Applied);
        Line {
            service: status.instance.service,
            instance: status.instance.id,
            host: status.instance.host,
            key: status.key,
            revision: status.report.revision,
            head: head.map(|head| head.revision),
            state: match state {
                Standing::Applied => "applied",
                Standing::Rejected => "rejected",
                Standing::Behind => "behind",
            },
            reason,
            since: status.since,
            seen: status.seen,
            digest: status.report.digest,
            version: status.instance.version,
            distrust: None,
        }
    }

    fn is_problem(&self) -> bool {
        self.state != "applied" || self.distrust.is_some()
    }

    /// Whether it says the same, apart from when it was heard.
    fn says(&self, other: &Line) -> bool {
        let Line { since, seen, .. } = self;
        Line { since: *since, seen: *seen, ..other.clone() } == *self
    }

    /// Who says it: there is one of each.
    fn who(&self) -> (&Key, &str) {
        (&self.key, &self.instance)
    }
}

fn by_instance(lines: &[Line]) -> HashMap<(&Key, &str), &Line> {
    lines.iter().map(|line| (line.who(), line)).collect()
}

/// The newest revision of a key.
#[derive(Debug, Clone, Copy)]
struct Head {
    revision: Revision,
    what: What,
}

/// What is known of a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Document,
    Tombstone,
    /// Only that an instance knows it.
    Told,
}

/// How an instance stands to the head, which is what counts: it may not have heard of it yet.
fn standing(status: &Status, head: Option<&Head>) -> Standing {
    let report = &status.report;
    let Some(head) = head else { return Standing::Applied };
    if report.rejected.as_ref().is_some_and(|refused| refused.revision == head.revision) {
        return report.state;
    }
    // One whose key was deleted keeps its value.
    let known = match head.what {
        What::Document => report.revision,
        What::Tombstone => report.newest,
        What::Told if report.newest >= Some(head.revision) => return report.state,
        What::Told => return Standing::Behind,
    };
    if known == Some(head.revision) { Standing::Applied } else { Standing::Behind }
}

/// With --watch, an instance that is there is asked for again after this.
const AGAIN: Duration = Duration::from_secs(10);

pub(crate) async fn run(session: &Session, args: Args) -> anyhow::Result<Outcome> {
    let trust = args.trusting.read()?;
    anyhow::ensure!(trust.is_none() || !args.watch, "--trust goes without --watch");
    let bucket = session.bucket().await?;
    let key = args.key.as_ref();
    // Whoever mistypes the bucket's name wants to hear of it. Who may see the records only is served by them.
    let described = match bucket.describe().await {
        Ok(described) => Some(described),
        Err(BucketError::Denied(_)) => None,
        Err(error) => return Err(error.into()),
    };
    let of = described.as_ref();
    let out = &session.out;
    let roll = Roll::new(&bucket, key, AGAIN);
    let mut found = read(&bucket, &roll, key, of).await?;
    if !args.watch && !found.back_in.is_zero() {
        out.note("the server was restarted a moment ago: waiting for instances that are on their way back");
        tokio::time::sleep(found.back_in).await;
        found = read(&bucket, &roll, key, of).await?;
    }
    let Read { mut lines, now, back_in, fleeting, more } = found;
    let untrusted = match &trust {
        Some(trust) => told_distrust(out, &mut lines, &signing::distrusted(&bucket, trust, key).await?),
        None => false,
    };
    if !back_in.is_zero() {
        out.note("the server was restarted a moment ago: instances may still be on their way back");
    }
    if fleeting {
        out.note(&format!(
            "the stream KV_{}_status forgets instances before they tell again, so that some may be missing: delete it, and the \
             loader makes it as it should be",
            bucket.name()
        ));
    }
    if more > 0 {
        out.note(&format!("{more} more records are not shown: find out who writes so many"));
    }
    let outcome = |lines: &[Line]| if lines.iter().any(Line::is_problem) { Outcome::No } else { Outcome::Yes };
    if !args.watch {
        if lines.is_empty() {
            let of = key.map_or_else(String::new, |key| format!(" of {key}"));
            out.note(&format!("no live instance{of} is known in the bucket {}", bucket.name()));
        }
        show(out, &lines, now)?;
        return Ok(if untrusted { Outcome::No } else { outcome(&lines) });
    }
    follow(session, &bucket, (&roll, key, of), (lines, now)).await
}

/// What was read.
struct Read {
    /// The live instances, the newest problem first.
    lines: Vec<Line>,
    /// The time by the server's clock.
    now: Timestamp,
    /// How long some may be missing yet.
    back_in: Duration,
    /// Whether some may be missing at any time.
    fleeting: bool,
    /// How many records were not looked at.
    more: usize,
}

/// Where nobody lets us know what the bucket is, the newest revision that an instance knows counts as the head.
async fn read(bucket: &Bucket, roll: &Roll, key: Option<&Key>, of: Option<&Description>) -> Result<Read, BucketError> {
    let may_read = of.is_some();
    let mut heads = if may_read { heads_of(bucket, key).await? } else { HashMap::new() };
    let called = roll.call().await?;
    let back_in = bucket.back_in(of, &called).await;
    let Called { statuses, now, fleeting, more, .. } = called;
    let past = |status: &Status| heads.get(&status.key).is_some_and(|head| status.report.newest > Some(head.revision));
    if may_read && statuses.iter().any(past) {
        // Stored since, or lost.
        heads = heads_of(bucket, key).await?;
    }
    for status in statuses.iter().filter(|_| !may_read) {
        let Some(revision) = status.report.newest else { continue };
        let head = heads.entry(status.key.clone()).or_insert(Head { revision, what: What::Told });
        head.revision = head.revision.max(revision);
    }
    let mut lines: Vec<_> = statuses
        .into_iter()
        .map(|status| {
            let head = heads.get(&status.key);
            Line::of(status, head)
        })
        .collect();
    lines.sort_by(|a, b| {
        let place = |line: &Line| (!line.is_problem(), line.is_problem().then_some(std::cmp::Reverse(line.since)));
        (place(a), &a.key, &a.instance).cmp(&(place(b), &b.key, &b.instance))
    });
    Ok(Read { lines, now, back_in, fleeting, more })
}

async fn heads_of(bucket: &Bucket, key: Option<&Key>) -> Result<HashMap<Key, Head>, BucketError> {
    let mut heads = HashMap::new();
    let mut note = |entry: &Entry| {
        let what = if entry.operation == Operation::Delete { What::Tombstone } else { What::Document };
        heads.insert(entry.key.clone(), Head { revision: entry.revision, what });
    };
    match key {
        Some(key) => bucket.head(key).await?.iter().for_each(&mut note),
        None => bucket.each_head(&Pattern::all(), false, |entry| note(&entry)).await?,
    }
    Ok(heads)
}

fn show(out: &Output, lines: &[Line], now: Timestamp) -> anyhow::Result<()> {
    if out.is_json() {
        return lines.iter().try_for_each(|line| out.json(line));
    }
    if lines.is_empty() {
        return Ok(());
    }
    let rows = lines.iter().map(|line| {
        let style = match line.state {
            "applied" => Style::new(),
            "rejected" => REMOVED,
            _ => STRONG,
        };
        let revision = |revision: Option<Revision>| revision.map_or("-".into(), |revision| revision.to_string());
        let ago = |at: Timestamp| short(now.duration_since(at));
        let cells = [
            line.key.to_string(),
            line.instance.clone(),
            line.host.clone(),
            revision(line.revision),
            revision(line.head),
            line.state.to_owned(),
            ago(line.since),
            ago(line.seen),
            line.distrust.as_ref().or(line.reason.as_ref()).cloned().unwrap_or_default(),
        ];
        (style, cells)
    });
    out.styled_table(&["KEY", "INSTANCE", "HOST", "REVISION", "HEAD", "STATE", "FOR", "SEEN", "REASON"], rows)
}

/// Says of each instance, and of each key that none follows, what is not trusted; whether a head is among that.
fn told_distrust(out: &Output, lines: &mut [Line], judged: &BTreeMap<Key, Distrusted>) -> bool {
    for line in lines.iter_mut() {
        let Some(Distrusted { head, why }) = judged.get(&line.key) else { continue };
        let running = line.revision.and_then(|running| Some((running, why.get(&running)?)));
        line.distrust = match (why.get(head), running) {
            (Some(why), _) => Some(format!("the head, revision {head}, is not trusted: {why}")),
            (None, Some((running, why))) => Some(format!("it runs revision {running}, which is not trusted: {why}")),
            (None, None) => None,
        };
    }
    let mut any = false;
    for (key, Distrusted { head, why }) in judged {
        let Some(why) = why.get(head) else { continue };
        any = true;
        if !lines.iter().any(|line| line.key == *key) {
            out.note(&format!("{key}@{head} is not trusted: {why}"));
        }
    }
    any
}

/// A duration at a glance: its largest unit.
fn short(duration: SignedDuration) -> String {
    let seconds = duration.as_secs().max(0);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m", seconds / 60),
        3_600..86_400 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// Shows the whole again on a terminal, and what changed elsewhere, until it is told to stop.
async fn follow(
    session: &Session,
    bucket: &Bucket,
    (roll, key, of): (&Roll, Option<&Key>, Option<&Description>),
    (mut lines, mut now): (Vec<Line>, Timestamp),
) -> anyhow::Result<Outcome> {
    const PACE: Duration = Duration::from_secs(1);
    let out = &session.out;
    let whole = out.is_terminal() && !out.is_json();
    let mut told = bucket.follow_statuses(key).await?;
    let mut first = true;
    let mut trouble = false;
    while !out.is_closed() {
        if whole {
            // Up to the left, and what was there before is gone.
            out.bytes(b"\x1b[H\x1b[2J")?;
            show(out, &lines, now)?;
        } else if first {
            show(out, &lines, now)?;
        }
        first = false;
        out.flush()?;
        let news = async {
            while let Some(heard) = told.next().await {
                if is_news(&heard, &lines) {
                    return;
                }
            }
            std::future::pending().await
        };
        tokio::select! {
            biased;
            () = session.shutdown.cancelled() => break,
            // Its record is stored a moment after it is heard.
            () = news => tokio::time::sleep(Duration::from_millis(50)).await,
            () = tokio::time::sleep(PACE) => {}
        }
        let read = match read(bucket, roll, key, of).await {
            Ok(read) => {
                (trouble, now) = (false, read.now);
                read.lines
            }
            Err(error) => {
                if !std::mem::replace(&mut trouble, true) {
                    out.note(&format!("cannot read it: {error}; trying again"));
                }
                tokio::time::sleep(PACE).await;
                continue;
            }
        };
        if !whole {
            let (before, after) = (by_instance(&lines), by_instance(&read));
            let changed = read.iter().filter(|line| before.get(&line.who()).is_none_or(|before| !before.says(line)));
            let gone = lines.iter().filter(|line| !after.contains_key(&line.who()));
            let gone = gone.map(|line| Line { state: "gone", ..line.clone() });
            let changes: Vec<_> = changed.cloned().chain(gone).collect();
            show(out, &changes, now)?;
        }
        lines = read;
    }
    Ok(Outcome::Yes)
}

/// Whether an instance says something else than what is shown of it.
fn is_news(heard: &Heard, lines: &[Line]) -> bool {
    match heard {
        Heard::Goodbye { .. } => true,
        Heard::Status(status) => {
            let shown = lines.iter().find(|line| line.key == status.key && line.instance == status.instance.id);
            let reason = status.report.rejected.as_ref().map(|refused| &refused.reason);
            shown.is_none_or(|line| line.revision != status.report.revision || line.reason.as_ref() != reason)
        }
    }
}

#[cfg(test)]
mod tests {
    use confhot::kv::{Instance, Refused, Report};

    use super::*;

    fn status(revision: u64, newest: u64, rejected: Option<u64>, state: Standing) -> Status {
        Status {
            instance: Instance::new("service1", "a", "host"),
            key: Key::parse("service1").unwrap(),
            report: Report {
                revision: Some(Revision(revision)),
                digest: None,
                newest: Some(Revision(newest)),
                state,
                rejected: rejected.map(|revision| Refused {
                    revision: Revision(revision),
                    kind: "invalid".into(),
                    reason: "no".into(),
                }),
            },
            seen: Timestamp::UNIX_EPOCH,
            since: Timestamp::UNIX_EPOCH,
            up: Duration::ZERO,
            connected: Duration::ZERO,
            beat: Duration::ZERO,
            here: false,
            process: String::new(),
            twin: false,
        }
    }

    #[test]
    fn what_counts_is_the_head_and_not_what_an_instance_takes_for_the_newest() {
        let head = |revision, what| Some(Head { revision: Revision(revision), what });
        let stands = |status: &Status, head: Option<Head>| standing(status, head.as_ref());

        let fine = status(7, 7, None, Standing::Applied);
        assert_eq!(stands(&fine, head(7, What::Document)), Standing::Applied);
        assert_eq!(stands(&fine, head(8, What::Document)), Standing::Behind);
        // The bucket lost it.
        assert_eq!(stands(&fine, head(6, What::Document)), Standing::Behind);
        assert_eq!(stands(&fine, head(8, What::Tombstone)), Standing::Behind);
        assert_eq!(stands(&status(7, 8, None, Standing::Applied), head(8, What::Tombstone)), Standing::Applied);
        assert_eq!(stands(&fine, None), Standing::Applied);

        let rejected = status(6, 7, Some(7), Standing::Rejected);
        assert_eq!(stands(&rejected, head(7, What::Document)), Standing::Rejected);
        assert_eq!(stands(&rejected, head(8, What::Document)), Standing::Behind);
        assert_eq!(stands(&status(6, 7, Some(7), Standing::Behind), head(7, What::Document)), Standing::Behind);

        // Where only the records may be read.
        assert_eq!(stands(&fine, head(8, What::Told)), Standing::Behind);
        assert_eq!(stands(&fine, head(7, What::Told)), Standing::Applied);
        assert_eq!(stands(&status(6, 7, None, Standing::Behind), head(7, What::Told)), Standing::Behind);
        assert_eq!(stands(&rejected, head(7, What::Told)), Standing::Rejected);
    }

    #[test]
    fn an_age_is_told_by_its_largest_unit() {
        let told: Vec<_> = [-3, 0, 59, 60, 7_199, 90_000].map(|s| short(SignedDuration::from_secs(s))).into();

        assert_eq!(told, ["0s", "0s", "59s", "1m", "1h", "1d"]);
    }
}
