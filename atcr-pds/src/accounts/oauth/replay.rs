use sqlx::SqliteConnection;

use super::jwt::hash;

/// Something that is used once only: which, and until when it has to be remembered.
#[derive(Debug)]
pub(super) struct Replays {
    id: String,
    expires: i64,
}

impl Replays {
    pub(super) fn assertion(client: &str, id: &str, expires: i64) -> Self {
        Self { id: hash(&format!("assertion {client} {id}")), expires }
    }

    pub(super) fn code_challenge(challenge: &str, expires: i64) -> Self {
        Self { id: hash(&format!("code challenge {challenge}")), expires }
    }

    /// Remembers it; false when it was already known.
    pub(super) async fn first_use(&self, connection: &mut SqliteConnection) -> Result<bool, sqlx::Error> {
        let inserted =
            sqlx::query("insert into oauth_replays (id, expires) values (?, ?) on conflict do nothing")
                .bind(&self.id)
                .bind(self.expires)
                .execute(connection)
                .await?;
        Ok(inserted.rows_affected() == 1)
    }
}
