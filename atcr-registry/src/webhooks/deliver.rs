//! Sending.

use std::sync::Arc;
use std::time::Duration;

use atcr_core::syntax::Did;
use data_encoding::HEXLOWER;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::header::CONTENT_TYPE;
use http::{HeaderName, Method};
use jiff::{SignedDuration, Timestamp};
use sha2::Sha256;
use tokio::task::JoinSet;

use super::error::reason;
use super::hook::{Delivery, Secret, Target};
use super::payload::{Attempt, Event, Test};
use super::store::{Claimed, Outcome};
use super::{Inner, WebhookError};

const SIGNATURE: HeaderName = HeaderName::from_static("x-atcr-signature-256");
const DELIVERY: HeaderName = HeaderName::from_static("x-atcr-delivery");
const EVENT: HeaderName = HeaderName::from_static("x-atcr-event");

/// What was taken and not answered for is taken again so long after the time limit of an attempt.
const LEASE: SignedDuration = SignedDuration::from_secs(20);
/// What other processes have left is looked for so often.
const LOOK: Duration = Duration::from_secs(15);
/// Nothing is looked for more often.
const BREATH: Duration = Duration::from_millis(100);

/// The value of the header that authenticates a body.
fn signature(secret: &Secret, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("HMAC takes keys of every length");
    mac.update(body);
    format!("sha256={}", HEXLOWER.encode(&mac.finalize().into_bytes()))
}

impl Inner {
    fn until(&self, now: Timestamp) -> Timestamp {
        let timeout = SignedDuration::try_from(self.options.timeout).unwrap_or(LEASE);
        now.checked_add(timeout.saturating_add(LEASE)).unwrap_or(Timestamp::MAX)
    }

    pub(super) async fn deliver_for_ever(this: &Arc<Self>) {
        let mut sending = JoinSet::new();
        loop {
            let wait = match Self::send_some(this, &mut sending).await {
                Ok(wait) => wait,
                Err(error) => {
                    tracing::warn!(%error, "nothing can be delivered now; it is tried again");
                    LOOK
                }
            };
            tokio::select! {
                Some(_) = sending.join_next() => {}
                () = this.work.notified() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Begins to send what is due, as far as there is room, and says when to look again.
    async fn send_some(this: &Arc<Self>, sending: &mut JoinSet<()>) -> Result<Duration, WebhookError> {
        let room = this.options.at_once.saturating_sub(sending.len());
        if room == 0 {
            return Ok(LOOK);
        }
        let now = this.now();
        for claimed in this.store.claim(now, this.until(now), room).await? {
            let this = Arc::clone(this);
            sending.spawn(async move {
                if let Err(error) = this.send(&claimed).await {
                    tracing::warn!(%error, delivery = claimed.id, "what became of a delivery is not kept");
                }
            });
        }
        if sending.len() >= this.options.at_once {
            return Ok(LOOK);
        }
        let due = this.store.next_due(this.now()).await?;
        let wait = due.and_then(|due| Duration::try_from(due.duration_since(this.now())).ok());
        // What is overdue was made since it was looked for.
        Ok(due.map_or(LOOK, |_| wait.unwrap_or_default()).clamp(BREATH, LOOK))
    }

    pub(super) async fn deliver_due(this: &Arc<Self>) -> Result<usize, WebhookError> {
        let now = this.now();
        let mut sending = JoinSet::new();
        for claimed in this.store.claim(now, this.until(now), this.options.at_once).await? {
            let this = Arc::clone(this);
            sending.spawn(async move { this.send(&claimed).await });
        }
        let mut sent = 0;
        while let Some(done) = sending.join_next().await {
            done.map_err(WebhookError::store)??;
            sent += 1;
        }
        Ok(sent)
    }

    pub(super) async fn test(&self, did: &Did, id: &str) -> Result<Delivery, WebhookError> {
        let event = Event::Test(Test { owner: self.owner(did).await? });
        let now = self.now();
        let claimed = self.store.begin_test(did, id, event, now, self.until(now)).await?;
        // A hook that was removed meanwhile has no deliveries.
        self.send(&claimed).await?.ok_or(WebhookError::NotFound)
    }

    /// Makes one attempt and keeps what became of it.
    async fn send(&self, claimed: &Claimed) -> Result<Option<Delivery>, WebhookError> {
        let outcome = match (&claimed.target, &claimed.event) {
            (Some(target), Some(event)) => self.attempt(&claimed.id, target, event).await,
            (None, _) => failed("the address cannot be decrypted; make the webhook anew".to_owned()),
            (_, None) => failed("this version cannot read what was to be sent".to_owned()),
        };
        self.store.finish(claimed, &outcome, self.now()).await
    }

    async fn attempt(&self, delivery: &str, target: &Target, event: &Event) -> Outcome {
        let attempt = Attempt { delivery, sent_at: self.now(), base: &self.base };
        let body = event.body(target.url.form(), attempt);
        let request = match self.egress.request(Method::POST, target.url.url().clone()) {
            Ok(request) => request,
            Err(error) => return failed(reason(&error)),
        };
        let mut request = request
            .header(CONTENT_TYPE, "application/json")
            .header(EVENT, event.name())
            .header(DELIVERY, delivery);
        if let Some(secret) = &target.secret {
            request = request.header(SIGNATURE, signature(secret, &body));
        }
        let answer = self.egress.send(request.body(body));
        // Its body says nothing that is needed, and is not read.
        match tokio::time::timeout(self.options.timeout, answer).await {
            Ok(Ok(response)) => {
                let status = response.status();
                let redirects = if status.is_redirection() { "; redirects are not followed" } else { "" };
                Outcome {
                    delivered: status.is_success(),
                    answer: format!("answered {}{redirects}", status.as_u16()),
                }
            }
            Ok(Err(error)) => failed(reason(&error)),
            Err(_) => failed(format!("no answer within {} seconds", self.options.timeout.as_secs_f32())),
        }
    }
}

fn failed(answer: String) -> Outcome {
    Outcome { delivered: false, answer }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_signed_as_rfc_4231_says() {
        // Test case 2.
        let secret = Secret::parse("Jefe").unwrap().unwrap();
        assert_eq!(
            signature(&secret, b"what do ya want for nothing?"),
            "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
    }
}
