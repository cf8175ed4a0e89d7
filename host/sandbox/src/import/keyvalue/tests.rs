//! What a bucket in memory promises, and where it ends.

use super::*;

fn small() -> MemoryBucket {
    MemoryBucket::new(BucketLimits { key: 4, value: 8, keys: 3, total: 20 })
}

#[tokio::test]
async fn values_are_kept_by_key() {
    let bucket = MemoryBucket::default();
    assert_eq!(bucket.get("a").await, Ok(None));
    bucket.set("a", b"1".to_vec()).await.expect("fits");
    bucket.set("a", b"2".to_vec()).await.expect("fits");
    assert_eq!(bucket.get("a").await, Ok(Some(b"2".to_vec())));
    assert_eq!(bucket.exists("a").await, Ok(true));
    bucket.delete("a").await.expect("deleted");
    bucket.delete("a").await.expect("nothing to delete");
    assert_eq!(bucket.exists("a").await, Ok(false));
}

#[tokio::test]
async fn every_limit_names_itself_and_changes_nothing() {
    let bucket = small();
    bucket.set("a", vec![0; 8]).await.expect("fits");
    bucket.set("b", vec![0; 8]).await.expect("fits");
    for (key, length, reason) in [
        ("12345", 0, "the key has 5 bytes; the limit is 4"),
        ("a", 9, "the value has 9 bytes; the limit is 8"),
        ("c", 2, "the bucket would hold 21 bytes; the limit is 20"),
    ] {
        assert_eq!(bucket.set(key, vec![1; length]).await, Err(BucketError(reason.to_owned())));
        assert!(!bucket.swap(key, None, vec![1; length]).await.unwrap_or(false));
    }
    assert_eq!(bucket.get("a").await, Ok(Some(vec![0; 8])));
    bucket.set("c", vec![0]).await.expect("fits exactly");
    let full = BucketError("the bucket holds 3 keys; the limit is 3".to_owned());
    assert_eq!(bucket.set("d", vec![]).await, Err(full));
    bucket.delete("a").await.expect("deleted");
    bucket.set("d", vec![0; 8]).await.expect("the room of what was deleted is free again");
}

#[tokio::test]
async fn keys_come_in_pages_and_in_order() {
    let bucket = MemoryBucket::default();
    for key in ["b", "a", "d", "c"] {
        bucket.set(key, vec![]).await.expect("fits");
    }
    assert_eq!(bucket.keys(None, 3).await.expect("keys"), ["a", "b", "c"]);
    assert_eq!(bucket.keys(Some("c"), 3).await.expect("keys"), ["d"]);
    assert_eq!(bucket.keys(Some("bb"), 1).await.expect("keys"), ["c"]);
    assert!(bucket.keys(Some("d"), 3).await.expect("keys").is_empty());
}

#[tokio::test]
async fn a_number_is_added_to_or_refused() {
    let bucket = MemoryBucket::default();
    assert_eq!(bucket.increment("n", 5).await, Ok(5));
    assert_eq!(bucket.increment("n", -7).await, Ok(-2));
    assert_eq!(bucket.get("n").await, Ok(Some(b"-2".to_vec())));
    bucket.set("n", i64::MAX.to_string().into_bytes()).await.expect("fits");
    assert!(bucket.increment("n", 1).await.is_err());
    bucket.set("n", b"many".to_vec()).await.expect("fits");
    assert!(bucket.increment("n", 1).await.is_err());
    assert_eq!(bucket.get("n").await, Ok(Some(b"many".to_vec())));
}

#[tokio::test]
async fn a_swap_needs_the_value_it_expects() {
    let bucket = MemoryBucket::default();
    assert_eq!(bucket.swap("k", Some(b"1"), b"2".to_vec()).await, Ok(false));
    assert_eq!(bucket.swap("k", None, b"1".to_vec()).await, Ok(true));
    assert_eq!(bucket.swap("k", None, b"2".to_vec()).await, Ok(false));
    assert_eq!(bucket.swap("k", Some(b"1"), b"2".to_vec()).await, Ok(true));
    assert_eq!(bucket.get("k").await, Ok(Some(b"2".to_vec())));
}

#[test]
fn increments_from_many_threads_all_count() {
    let bucket = MemoryBucket::default();
    let runtime = || tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                runtime().block_on(async {
                    for _ in 0..1000 {
                        bucket.increment("n", 1).await.expect("counts");
                    }
                });
            });
        }
    });
    assert_eq!(runtime().block_on(bucket.get("n")), Ok(Some(b"4000".to_vec())));
}
