//! `confhot rollback --set`: all that was published as one, taken back as one.

use confhot::kv::Expect;
use confhot::kv::{Bucket, ChangeSet, Entry, Key, Operation, Pattern, Provenance, Revision, Write, Writer, rollback};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Args, show, write};
use crate::commands::signing::may_come_back;
use crate::commands::wait::Stood;
use crate::commands::{No, Outcome, Session, Unconfirmed, absent};

/// What is done about one member, and the revision that it goes back to; none where the set had made the key.
struct Step {
    head: Entry,
    target: Option<Entry>,
    write: Write,
}

pub(super) async fn run(session: &Session, args: Args) -> anyhow::Result<Outcome> {
    let signing = args.signing.read(session)?;
    let bucket = signing.on(session.bucket().await?);
    let Some(head) = bucket.head(&args.key).await? else { return Err(absent(&bucket, &args.key).await) };
    let Some(set) = head.provenance.set.clone().filter(|_| head.set_id().is_some()) else {
        return Err(No::Lone { key: args.key, revision: head.revision }.into());
    };
    let mut steps = Vec::new();
    let members = bucket.members(&Pattern::all(), &set, head.revision).await?;
    for member in &members {
        // A schema that goes back with its document has no say in that.
        let judged = !members.iter().any(|other| Some(&other.key) == member.key.schema().as_ref());
        steps.push(step(&bucket, member, judged).await?);
    }
    let back = ChangeSet::new(steps.len());
    let author = session.author();
    for step in &mut steps {
        let provenance = &mut step.write.provenance;
        provenance.set = Some(back.clone());
        provenance.author.clone_from(&author);
        provenance.message.clone_from(&args.message);
        match &step.target {
            Some(target) => show(session, &bucket, &step.head, target).await?,
            None => session.out.note(&format!("{} is deleted: the change set had made it", step.head.key)),
        }
    }
    if !args.yes {
        match session.out.confirm(&format!("Take back all {} of them?", steps.len())) {
            Some(true) => {}
            Some(false) => return Ok(Outcome::No),
            None => return Err(Unconfirmed { verb: "rollback" }.into()),
        }
    }
    let waiting = args.waiting.begin(&bucket, None).await?;
    let writes: Vec<_> = steps.iter().map(|step| step.write.clone()).collect();
    let outcomes = bucket.publish_set(&writes, true).await;
    let stored = outcomes.into_iter().collect::<Result<Vec<_>, _>>()?;

    let out = &session.out;
    let (mut documents, mut stood) = (Vec::new(), Vec::new());
    for (step, stored) in steps.iter().zip(stored) {
        let (key, revision) = (&step.head.key, stored.revision);
        let to = step.target.as_ref().map(|target| target.revision);
        documents.push(json!({ "key": key, "revision": revision, "rolled_back_to": to }));
        if step.write.operation == Operation::Put {
            stood.push(Stood::new(key.clone(), revision, step.write.digest, false));
        }
        if !out.is_json() {
            out.line(&told(key, to, revision))?;
        }
    }
    out.flush()?;
    let mut answer = json!({ "set": back, "documents": documents });
    let mut outcome = Outcome::Yes;
    if let Some(mut waiting) = waiting {
        let (of_wait, lists) = waiting.settle(session, &bucket, &stood, false).await?;
        outcome = of_wait;
        if let Value::Object(answer) = &mut answer {
            answer.extend(lists);
        }
    }
    if out.is_json() {
        out.json(&answer)?;
    }
    Ok(outcome)
}

fn told(key: &Key, to: Option<Revision>, revision: Revision) -> String {
    match to {
        Some(to) => format!("{key} is rolled back to revision {to}, as revision {revision}"),
        None => format!("{key} is deleted at revision {revision}"),
    }
}

/// What takes one member back; an error where somebody has changed it since, for then it cannot be as it was.
async fn step(bucket: &Bucket, member: &Entry, judged: bool) -> anyhow::Result<Step> {
    let (key, revision) = (member.key.clone(), member.revision);
    let history = bucket.history(&key).await?;
    let Some(head) = history.first().filter(|head| head.revision == revision) else {
        return Err(No::Overtaken { key, revision }.into());
    };
    let target = rollback::target(&may_come_back(bucket, history.clone())).cloned();
    if target.is_none()
        && let Some(revision) = rollback::target(&history).map(|target| target.revision)
    {
        return Err(No::Unsigned { key, revision }.into());
    }
    let write = match &target {
        Some(target) => write(bucket, head, target, judged).await?,
        None => {
            let mut provenance = Provenance::by(Writer::Rollback);
            provenance.read_at = Some(Timestamp::now());
            Write::delete(key, provenance, Expect::At(revision))
        }
    };
    Ok(Step { head: head.clone(), target, write })
}
