//! The tables, the same in both databases.
//!
//! Whatever came out of a record stands under the number of its repo and its record key, so that it can be replaced
//! and removed by what an event says. Times are milliseconds since 1970, revisions the number that a TID is, digests
//! their bytes: 32 are a SHA-256, 64 a SHA-512.

use sqlx::AssertSqlSafe;

use super::IndexError;
use super::database::{Database, Dialect, first, run};

/// Each brings the schema from its place in the list to the next one. Never change one that was released.
const MIGRATIONS: [&str; 2] = [FIRST, EVENTS];

const FIRST: &str = "
CREATE TABLE repos (
    id {id},
    did {text} NOT NULL UNIQUE,
    handle {text},
    pds {text},
    document {text},
    identity_at BIGINT NOT NULL DEFAULT 0,
    status {text} NOT NULL DEFAULT 'active',
    rev BIGINT,
    data {text},
    need BIGINT,
    whole BIGINT NOT NULL DEFAULT 0,
    read_at BIGINT NOT NULL DEFAULT 0,
    retry_at BIGINT NOT NULL DEFAULT 0,
    attempts BIGINT NOT NULL DEFAULT 0,
    failure {text}
);
CREATE INDEX repos_handle ON repos (handle);
CREATE INDEX repos_need ON repos (retry_at) WHERE need IS NOT NULL;

CREATE TABLE records (
    repo BIGINT NOT NULL, collection BIGINT NOT NULL, rkey {text} NOT NULL,
    rev BIGINT NOT NULL, cid {blob},
    PRIMARY KEY (repo, collection, rkey)
){keyed};

CREATE TABLE repositories (
    id {id},
    repo BIGINT NOT NULL, name {text} NOT NULL,
    last_push BIGINT NOT NULL DEFAULT 0,
    stars BIGINT NOT NULL DEFAULT 0, pulls BIGINT NOT NULL DEFAULT 0, pushes BIGINT NOT NULL DEFAULT 0,
    description {text}, avatar {text}, avatar_type {text},
    UNIQUE (repo, name)
);
CREATE INDEX repositories_recent ON repositories (last_push, id);
CREATE INDEX repositories_popular ON repositories (stars, pulls, id);

CREATE TABLE manifests (
    id {id},
    repo BIGINT NOT NULL, rkey {text} NOT NULL,
    digest {blob} NOT NULL, media_type {text} NOT NULL, artifact_type {text},
    size BIGINT, created_at BIGINT NOT NULL, hold {text}, subject {blob},
    annotations {text} NOT NULL, content_size BIGINT NOT NULL, layer_count BIGINT NOT NULL, pds_blob {text},
    UNIQUE (repo, rkey)
);
CREATE INDEX manifests_digest ON manifests (digest, repo);
CREATE INDEX manifests_subject ON manifests (subject, repo) WHERE subject IS NOT NULL;
CREATE INDEX manifests_hold ON manifests (repo, hold);

CREATE TABLE bodies (digest {blob} NOT NULL PRIMARY KEY, bytes {blob} NOT NULL){keyed};

CREATE TABLE manifest_repositories (
    manifest BIGINT NOT NULL, repository BIGINT NOT NULL, created_at BIGINT NOT NULL,
    PRIMARY KEY (manifest, repository)
){keyed};
CREATE INDEX manifest_repositories_recent ON manifest_repositories (repository, created_at, manifest);

CREATE TABLE layers (
    manifest BIGINT NOT NULL, position BIGINT NOT NULL,
    digest {blob} NOT NULL, size BIGINT NOT NULL, media_type {text} NOT NULL,
    PRIMARY KEY (manifest, position)
){keyed};
CREATE INDEX layers_digest ON layers (digest, manifest);

CREATE TABLE children (
    manifest BIGINT NOT NULL, position BIGINT NOT NULL,
    digest {blob} NOT NULL, size BIGINT NOT NULL, media_type {text} NOT NULL,
    os {text}, architecture {text}, variant {text}, annotations {text} NOT NULL,
    PRIMARY KEY (manifest, position)
){keyed};

CREATE TABLE tags (
    repo BIGINT NOT NULL, rkey {text} NOT NULL,
    repository BIGINT NOT NULL, tag {text} NOT NULL, digest {blob}, media_type {text},
    updated_at BIGINT NOT NULL, usual BIGINT NOT NULL,
    PRIMARY KEY (repo, rkey)
){keyed};
CREATE INDEX tags_name ON tags (repository, tag);
CREATE INDEX tags_recent ON tags (repository, updated_at);
CREATE INDEX tags_digest ON tags (repo, digest);

CREATE TABLE tag_history (
    id {id},
    repo BIGINT NOT NULL, repository {text} NOT NULL, tag {text} NOT NULL,
    digest {blob}, rev BIGINT NOT NULL, at BIGINT NOT NULL
);
CREATE INDEX tag_history_tag ON tag_history (repo, repository, tag, id);
CREATE INDEX tag_history_repository ON tag_history (repo, repository, id);

CREATE TABLE pages (
    repo BIGINT NOT NULL, rkey {text} NOT NULL,
    repository BIGINT NOT NULL, description {text}, avatar {text}, avatar_type {text},
    user_edited BIGINT NOT NULL, created_at BIGINT NOT NULL, updated_at BIGINT NOT NULL, usual BIGINT NOT NULL,
    PRIMARY KEY (repo, rkey)
){keyed};
CREATE INDEX pages_repository ON pages (repository);

CREATE TABLE stars (
    repo BIGINT NOT NULL, rkey {text} NOT NULL,
    owner {text} NOT NULL, repository {text} NOT NULL, created_at BIGINT NOT NULL,
    PRIMARY KEY (repo, rkey)
){keyed};
CREATE INDEX stars_repository ON stars (owner, repository, repo);

CREATE TABLE profiles (
    repo BIGINT NOT NULL, rkey {text} NOT NULL,
    default_hold {text}, auto_remove_untagged BIGINT NOT NULL, oci_client {text}, registry_domain {text},
    created_at BIGINT NOT NULL, updated_at BIGINT,
    PRIMARY KEY (repo, rkey)
){keyed};

CREATE TABLE holds (
    repo BIGINT NOT NULL, rkey {text} NOT NULL,
    hold {text} NOT NULL, endpoint {text} NOT NULL, owner {text} NOT NULL, public BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (repo, rkey)
){keyed};

CREATE TABLE captains (
    repo BIGINT NOT NULL, rkey {text} NOT NULL,
    owner {text} NOT NULL, public BIGINT NOT NULL, allow_all_crew BIGINT NOT NULL,
    region {text}, successor {text}, deployed_at BIGINT NOT NULL,
    PRIMARY KEY (repo, rkey)
){keyed};
CREATE INDEX captains_owner ON captains (owner);

CREATE TABLE crew (
    repo BIGINT NOT NULL, rkey {text} NOT NULL,
    member {text} NOT NULL, role {text} NOT NULL, permissions {text} NOT NULL, tier {text}, added_at BIGINT NOT NULL,
    PRIMARY KEY (repo, rkey)
){keyed};
CREATE INDEX crew_member ON crew (member);

CREATE TABLE stats (
    repo BIGINT NOT NULL, rkey {text} NOT NULL,
    owner {text} NOT NULL, repository {text} NOT NULL, pulls BIGINT NOT NULL, pushes BIGINT NOT NULL,
    last_pull BIGINT, last_push BIGINT,
    PRIMARY KEY (repo, rkey)
){keyed};
CREATE INDEX stats_repository ON stats (owner, repository);

CREATE TABLE scans (
    repo BIGINT NOT NULL, rkey {text} NOT NULL,
    digest {blob} NOT NULL, owner {text} NOT NULL, repository {text} NOT NULL,
    critical BIGINT NOT NULL, high BIGINT NOT NULL, medium BIGINT NOT NULL, low BIGINT NOT NULL, total BIGINT NOT NULL,
    status {text} NOT NULL, reason {text}, scanner {text} NOT NULL, scanned_at BIGINT NOT NULL,
    sbom {text}, report {text},
    PRIMARY KEY (repo, rkey)
){keyed};
CREATE INDEX scans_digest ON scans (digest);

CREATE TABLE hold_layers (
    repo BIGINT NOT NULL, rkey {text} NOT NULL,
    digest {blob} NOT NULL, owner {text} NOT NULL, size BIGINT NOT NULL,
    PRIMARY KEY (repo, rkey)
){keyed};
CREATE INDEX hold_layers_digest ON hold_layers (digest, repo);

CREATE TABLE terms (
    term {text} NOT NULL, repository BIGINT NOT NULL,
    PRIMARY KEY (term, repository)
){keyed};
CREATE INDEX terms_repository ON terms (repository, term);

CREATE TABLE cursors (
    source {text} NOT NULL PRIMARY KEY,
    seq BIGINT, page {text}, alive_at BIGINT NOT NULL DEFAULT 0
);

CREATE TABLE leases (name {text} NOT NULL PRIMARY KEY, holder {text} NOT NULL, expires_at BIGINT NOT NULL);
";

/// What tells a push from a tag that was found: when its record says that it was written; 0 where nobody knows.
const EVENTS: &str = "
ALTER TABLE tag_history ADD COLUMN written_at BIGINT NOT NULL DEFAULT 0;
CREATE INDEX tag_history_rev ON tag_history (repo, rev, id);
CREATE INDEX scans_owner ON scans (owner, scanned_at);
";

/// The tables that records are kept in, all under `repo` and `rkey`.
pub(super) const BY_RECORD: [&str; 12] = [
    "manifests",
    "tags",
    "pages",
    "stars",
    "profiles",
    "holds",
    "captains",
    "crew",
    "stats",
    "scans",
    "hold_layers",
    "records",
];

fn translate(sql: &str, dialect: Dialect) -> String {
    let words = match dialect {
        Dialect::Sqlite => [
            ("{id}", "INTEGER PRIMARY KEY"),
            ("{text}", "TEXT"),
            ("{blob}", "BLOB"),
            ("{keyed}", " WITHOUT ROWID"),
        ],
        // In the C collation text compares by its bytes, as in SQLite.
        Dialect::Postgres => [
            ("{id}", "BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY"),
            ("{text}", "TEXT COLLATE \"C\""),
            ("{blob}", "BYTEA"),
            ("{keyed}", ""),
        ],
    };
    words.iter().fold(sql.to_owned(), |sql, (word, meaning)| sql.replace(word, meaning))
}

/// Brings the schema up to date. Replicas that start together do it one after the other.
pub(super) async fn migrate(database: &Database) -> Result<(), IndexError> {
    let mut tx = database.begin().await?;
    if database.dialect == Dialect::Postgres {
        // The number is that of this schema's lock, and of nothing else in the database.
        sqlx::raw_sql("SELECT pg_advisory_xact_lock(7014532991)").execute(&mut *tx).await?;
    }
    run!(tx, "CREATE TABLE IF NOT EXISTS index_schema (version BIGINT NOT NULL)");
    let found: Option<(i64,)> = first!(&mut *tx, "SELECT version FROM index_schema");
    let found = found.map_or(0, |(version,)| version);
    let known = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
    let done = usize::try_from(found).ok().filter(|done| *done <= MIGRATIONS.len());
    let Some(done) = done else { return Err(IndexError::Newer { found, known }) };
    if done == MIGRATIONS.len() {
        return Ok(());
    }
    for migration in &MIGRATIONS[done..] {
        let sql = translate(migration, database.dialect);
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut *tx).await?;
    }
    run!(tx, "DELETE FROM index_schema");
    run!(tx, "INSERT INTO index_schema (version) VALUES ($1)", known);
    tx.commit().await?;
    Ok(())
}
