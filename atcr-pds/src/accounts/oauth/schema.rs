/// Secrets are kept as their hashes: nobody who reads the database can use a request, a code, a refresh token or a
/// browser's session.
pub(in crate::accounts) const SCHEMA: &str = "
create table if not exists oauth_requests (
    id text primary key,
    client text not null,
    client_auth text not null,
    parameters text not null,
    created integer not null,
    expires integer not null,
    device text,
    did text references accounts (did) on delete cascade,
    code text unique
);
create index if not exists oauth_requests_expires on oauth_requests (expires);
create table if not exists oauth_grants (
    id text primary key,
    did text not null references accounts (did) on delete cascade,
    client text not null,
    client_auth text not null,
    device text,
    jkt text not null,
    requested text not null,
    scope text not null,
    code text not null unique,
    token text not null unique,
    token_expires integer not null,
    refresh text,
    created integer not null,
    expires integer not null
);
create index if not exists oauth_grants_expires on oauth_grants (expires);
create index if not exists oauth_grants_did on oauth_grants (did);
create table if not exists oauth_sessions (
    device text not null,
    did text not null references accounts (did) on delete cascade,
    signed_in integer not null,
    primary key (device, did)
);
create index if not exists oauth_sessions_signed_in on oauth_sessions (signed_in);
create table if not exists oauth_consents (
    did text not null references accounts (did) on delete cascade,
    client text not null,
    scope text not null,
    given integer not null,
    primary key (did, client)
);
create index if not exists oauth_consents_given on oauth_consents (given);
create table if not exists oauth_replays (id text primary key, expires integer not null);
create index if not exists oauth_replays_expires on oauth_replays (expires);
";
