//! What the server does not allow. It says so in a message of its own, beside whatever waits for an answer, which never
//! comes.

use std::collections::VecDeque;
use std::pin::Pin;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::{BucketError, Connection, random_below};

/// What the server said that it does not allow, on this connection.
#[derive(Debug, Default)]
pub(super) struct Denied {
    /// Counts all of it, also what was forgotten.
    count: u64,
    said: VecDeque<Violation>,
    /// The server's words where answers cannot be heard.
    deaf: Option<String>,
}

#[derive(Debug, PartialEq, Eq)]
struct Violation {
    number: u64,
    /// Of publishing, not of subscribing.
    publish: bool,
    subject: String,
    text: String,
}

impl Denied {
    /// As much as may be said between two looks of those who wait.
    const MOST: usize = 256;

    /// Takes note of what the server said, and tells whether it was about this.
    pub(super) fn note(denied: &watch::Sender<Denied>, text: &str, inbox_prefix: &str) -> bool {
        let Some((publish, subject)) = parse(text) else { return false };
        denied.send_modify(|denied| {
            denied.count += 1;
            if !publish && subject.strip_prefix(inbox_prefix).is_some_and(|rest| rest.starts_with('.')) {
                denied.deaf = Some(text.to_owned());
            }
            let (number, subject, text) = (denied.count, subject.to_owned(), text.to_owned());
            denied.said.push_back(Violation { number, publish, subject, text });
            if denied.said.len() > Self::MOST {
                denied.said.pop_front();
            }
        });
        true
    }

    /// Another connection may be allowed what this one was not.
    pub(super) fn forget(denied: &watch::Sender<Denied>) {
        denied.send_modify(|denied| {
            denied.said.clear();
            denied.deaf = None;
        });
    }

    fn find(&self, since: u64, publish: bool, subject: impl Fn(&str) -> bool) -> Option<&str> {
        let mut said = self.said.iter().filter(|said| said.number > since && said.publish == publish);
        said.find(|said| subject(&said.subject)).map(|said| said.text.as_str())
    }
}

/// Publishing or not, and the subject: `Permissions Violation for Publish to "subject"` (server/client.go).
fn parse(text: &str) -> Option<(bool, &str)> {
    let (kind, rest) = text.strip_prefix("Permissions Violation for ")?.split_once('"')?;
    Some((kind.starts_with("Publish"), rest.split('"').next()?))
}

/// Whether the server's `words` are about publishing, not about subscribing.
pub(super) fn is_of_publishing(words: &str) -> bool {
    parse(words).is_some_and(|(publish, _)| publish)
}

/// A subscription, and whether the server has refused it since it was made.
#[derive(Debug)]
pub(super) struct Interest {
    denied: watch::Receiver<Denied>,
    since: u64,
    subject: String,
}

impl Interest {
    /// Waits until the server refuses the subscription, and gives its words. Cancel-safe; once for each refusal.
    pub(super) async fn refused(&mut self) -> String {
        let subject = self.subject.as_str();
        let of_subject = |denied: &Denied| denied.find(self.since, false, |it| it == subject).map(str::to_owned);
        let said = self.denied.wait_for(|denied| of_subject(denied).is_some()).await.ok();
        let Some((count, text)) = said.and_then(|denied| Some((denied.count, of_subject(&denied)?))) else {
            return std::future::pending().await;
        };
        self.since = count;
        text
    }
}

/// Has a connection made anew that may not hear answers, when it may: the client subscribes to them once only, so that it
/// stays deaf where the server takes other permissions under it. Ends with the runtime.
pub(super) async fn listen_again(client: async_nats::Client, mut denied: watch::Receiver<Denied>) {
    /// How often it is tried whether it may hear them, about.
    const PACE: Duration = Duration::from_secs(10);
    /// A refusal takes no longer, unless the server is slow, and then a connection is made in vain.
    const MOMENT: Duration = Duration::from_secs(2);
    while denied.wait_for(|denied| denied.deaf.is_some()).await.is_ok() {
        sleep(PACE / 2 + Duration::from_millis(random_below(PACE.as_millis() as u64))).await;
        let subject = client.new_inbox();
        let since = denied.borrow_and_update().count;
        let Ok(_subscriber) = client.subscribe(subject.clone()).await else { continue };
        let refused = denied.wait_for(|denied| {
            denied.deaf.is_none() || denied.find(since, false, |it| it == subject.as_str()).is_some()
        });
        if timeout(MOMENT, refused).await.is_err() {
            let _ = client.force_reconnect().await;
        }
    }
}

impl Connection {
    /// To be called before the subscription is made.
    pub(super) fn interest(&self, subject: &str) -> Interest {
        let since = self.denied.borrow().count;
        Interest { denied: self.denied.clone(), since, subject: subject.to_owned() }
    }

    /// The answer to what `ask` publishes to `subject`, unless the server says that it does not allow that, or does not
    /// let us hear answers. Boxed, so that whoever asks now and then is not larger for it all the time.
    ///
    /// # Errors
    /// [`BucketError::Denied`].
    pub(super) async fn unless_denied<T>(
        &self,
        subject: &str,
        ask: Pin<Box<impl Future<Output = T>>>,
    ) -> Result<T, BucketError> {
        self.unless_any_denied(|it| it == subject, ask).await
    }

    /// As [`Connection::unless_denied`], for what is published to several subjects.
    pub(super) async fn unless_any_denied<T>(
        &self,
        subject: impl Fn(&str) -> bool,
        ask: Pin<Box<impl Future<Output = T>>>,
    ) -> Result<T, BucketError> {
        let mut denied = self.denied.clone();
        let since = denied.borrow().count;
        let words = |denied: &Denied| {
            denied
                .find(since, true, &subject)
                .or(denied.deaf.as_deref())
                .map(|text| BucketError::Denied(text.to_owned()))
        };
        let refused = async {
            let said = denied.wait_for(|denied| words(denied).is_some()).await.ok();
            match said.and_then(|denied| words(&denied)) {
                Some(refusal) => refusal,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            answer = ask => Ok(answer),
            refusal = refused => Err(refusal),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_subject_is_read_out_of_the_servers_words() {
        let publish = r#"Permissions Violation for Publish to "$KV.configs.service1""#;
        let subscribe = r#"Permissions Violation for Subscription to "confhot.live.configs.>" using queue "q""#;

        assert_eq!(parse(publish), Some((true, "$KV.configs.service1")));
        assert_eq!(parse(subscribe), Some((false, "confhot.live.configs.>")));
        assert_eq!(parse("User Authentication Expired"), None);
    }

    #[test]
    fn only_what_is_denied_after_the_question_answers_it_but_a_denied_inbox_always_does() {
        let (denied, _keep) = watch::channel(Denied::default());
        let say = |text: &str| assert!(Denied::note(&denied, text, "_INBOX_me"));
        say(r#"Permissions Violation for Publish to "a""#);
        let since = denied.borrow().count;
        assert_eq!(denied.borrow().find(since, true, |it| it == "a"), None);

        say(r#"Permissions Violation for Subscription to "_INBOX_men.x""#);
        say(r#"Permissions Violation for Publish to "a""#);
        assert!(denied.borrow().find(since, true, |it| it == "a").is_some());
        assert!(denied.borrow().find(since, false, |it| it == "a").is_none());
        assert_eq!(denied.borrow().deaf, None);

        say(r#"Permissions Violation for Subscription to "_INBOX_me.x.*""#);
        assert!(denied.borrow().deaf.is_some());
        Denied::forget(&denied);
        assert!(denied.borrow().deaf.is_none() && denied.borrow().said.is_empty());
        assert!(denied.borrow().count > since);
    }
}
