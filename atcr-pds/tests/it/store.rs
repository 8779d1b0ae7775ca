//! The database itself: another process, another version, damage, clearing up.

use std::collections::HashMap;
use std::sync::Arc;

use atcr_pds::{RepoError, SqliteStore, StoreError};
use bytes::Bytes;
use futures_util::TryStreamExt as _;
use ipld_core::cid::Cid;

use crate::world::{Follower, World, create, nodes_of, path, put};

/// Two processes on one database: the second finds the repo moved, looks again, and nothing is lost.
#[tokio::test]
async fn a_repo_moved_by_another_process_is_read_anew() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("repos.sqlite");
    let one = World::at(&file, Arc::default()).await;
    let (did, key) = one.repo("alice").await;
    let two = World::at(&file, one.keys.clone()).await;
    for n in 0..20 {
        one.write(&did, vec![create(&format!("one{n}"), "x")]).await.unwrap();
        two.write(&did, vec![create(&format!("two{n}"), "x")]).await.unwrap();
    }
    assert_eq!(one.verify(&did, &key).await.len(), 40);
    let mut follower = Follower::default();
    follower.follow(&one.repos, &HashMap::from([(did.clone(), key.clone())])).await;
    assert_eq!(follower.repos[&did].records.len(), 40);
}

#[tokio::test]
async fn a_database_of_a_newer_program_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("repos.sqlite");
    SqliteStore::open(&file).await.unwrap().close().await;
    let pool = sqlx::SqlitePool::connect(file.to_str().unwrap()).await.unwrap();
    sqlx::raw_sql("PRAGMA user_version = 99").execute(&pool).await.unwrap();
    pool.close().await;
    assert!(matches!(SqliteStore::open(&file).await, Err(StoreError::TooNew { found: 99, .. })));
    assert!(matches!(
        SqliteStore::open(&dir.path().join("no/such/folder")).await,
        Err(StoreError::Database(_))
    ));
}

#[tokio::test]
async fn a_damaged_block_is_never_served() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("repos.sqlite");
    let world = World::at(&file, Arc::default()).await;
    let (did, _) = world.repo("alice").await;
    world.write(&did, vec![put("a", "x")]).await.unwrap();
    let pool = sqlx::SqlitePool::connect(file.to_str().unwrap()).await.unwrap();
    for table in ["blocks", "records"] {
        let sql = format!("UPDATE {table} SET bytes = zeroblob(length(bytes))");
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&pool).await.unwrap();
    }
    pool.close().await;
    let corrupt = |e: RepoError| matches!(&e, RepoError::Store(e) if matches!(**e, StoreError::Corrupt(_)));
    assert!(corrupt(world.repos.get_record(&did, &path("a")).await.unwrap_err()));
    assert!(corrupt(world.repos.record_proof(&did, &path("zzz")).await.unwrap_err()));
    let export = world.repos.export(&did, None).await.unwrap().try_collect::<Vec<Bytes>>().await;
    assert!(corrupt(export.unwrap_err()));
    let cid: Cid = world.head(&did).await.cid;
    assert!(corrupt(world.repos.get_blocks(&did, &[cid]).await.unwrap_err()));
}

/// What is gone is deleted late and in bulk, but it is deleted, and nothing else is.
#[tokio::test]
async fn blocks_that_are_gone_are_cleared_away() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("repos.sqlite");
    let world = World::at(&file, Arc::default()).await;
    let (alice, alices) = world.repo("alice").await;
    let (bob, bobs) = world.repo("bob").await;
    let pool = sqlx::SqlitePool::connect(file.to_str().unwrap()).await.unwrap();
    let count = |table: &'static str| {
        let pool = pool.clone();
        async move {
            let sql = sqlx::AssertSqlSafe(format!("SELECT COUNT(*) FROM {table}"));
            sqlx::query_scalar::<_, i64>(sql).fetch_one(&pool).await.unwrap()
        }
    };
    let mut cleared = 0;
    let mut waiting = 0;
    for n in 0..1500u32 {
        let did = if n % 3 == 0 { &bob } else { &alice };
        // Back and forth between two contents, so that nodes go and come back.
        world.write(did, vec![put(&format!("k{}", n % 50), &format!("{}", (n / 50) % 2))]).await.unwrap();
        if n % 100 == 0 {
            let now = count("dropped").await;
            cleared += i32::from(now < waiting);
            waiting = now;
            let mut live = 0;
            for (did, key) in [(&alice, &alices), (&bob, &bobs)] {
                world.verify(did, key).await;
                let car = world.export(did, None).await;
                live += 1 + nodes_of(&car).len();
            }
            assert_eq!(count("blocks").await - now, i64::try_from(live).unwrap());
        }
    }
    assert!(cleared >= 1, "nothing was cleared away");
}
