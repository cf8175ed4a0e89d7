//! What an attacker, a crash or another process does to the folder, and what the cache makes of it.

use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

use super::*;

const LIMIT: u64 = 64 << 20;

fn key(number: u8) -> Key {
    Key { digest: Digest::from_sha256([number; 32]), engine: [7; 32] }
}

fn code(len: usize) -> Vec<u8> {
    (0..len).map(|index| (index * 31 % 251) as u8).collect()
}

/// A folder with an open cache in it.
struct Kit {
    folder: TempDir,
    cache: CodeCache,
}

impl Kit {
    fn new(limit_bytes: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let cache = CodeCache::open(folder.path(), limit_bytes).unwrap();
        Self { folder, cache }
    }

    /// With `code` stored under `key(1)`.
    fn holding(code: &[u8]) -> Self {
        let kit = Self::new(LIMIT);
        kit.cache.store(&key(1), code).unwrap();
        kit
    }

    fn path(&self, key: &Key) -> PathBuf {
        self.folder.path().join(key.file_name())
    }

    /// `key` gives nothing, is counted as an attack, and its file is gone.
    fn assert_refused(&self, key: &Key, what: &str) {
        let before = self.cache.stats().unwrap();
        assert!(self.cache.load(key).is_none(), "accepted: {what}");
        let after = self.cache.stats().unwrap();
        assert_eq!(after.rejected, before.rejected + 1, "not counted: {what}");
        assert!(fs::symlink_metadata(self.path(key)).is_err(), "not removed: {what}");
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.folder.path()).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn age(&self, key: &Key, hours: u64) {
        age(&self.path(key), hours);
    }
}

/// Makes a file look as if it was last used `hours` earlier than it was.
fn age(path: &Path, hours: u64) {
    let file = fs::File::open(path).unwrap();
    let modified = file.metadata().unwrap().modified().unwrap();
    file.set_modified(modified - Duration::from_secs(hours * 3600)).unwrap();
}

#[test]
fn gives_back_what_was_stored() {
    for len in [1, 4095, 4096, 4097, 300_000, 9 << 20] {
        let code = code(len);
        let kit = Kit::holding(&code);
        let image = kit.cache.load(&key(1)).unwrap();
        assert!(*image == *code, "{len} bytes");
        assert!(image.as_ptr().addr().is_multiple_of(4096), "the engine needs pages");
        assert_eq!(fs::read(image.path()).unwrap(), code);

        // Another process of this installation, and the same key again.
        let other = CodeCache::open(kit.folder.path(), LIMIT).unwrap();
        assert!(*other.load(&key(1)).unwrap() == *code);
        let stats = kit.cache.stats().unwrap();
        let bytes = (header::LEN + len) as u64;
        assert_eq!(stats, Stats { files: 1, bytes, hits: 1, misses: 0, rejected: 0 });
    }
}

#[test]
fn an_unknown_key_is_a_miss() {
    let kit = Kit::holding(b"code");
    let other_engine = Key { engine: [8; 32], ..key(1) };
    for unknown in [key(2), other_engine] {
        assert!(kit.cache.load(&unknown).is_none());
    }
    let stats = kit.cache.stats().unwrap();
    assert_eq!((stats.files, stats.misses, stats.rejected), (1, 2, 0));
}

#[test]
fn an_image_outlives_its_file_and_its_cache() {
    let kit = Kit::holding(b"code");
    let image = kit.cache.load(&key(1)).unwrap();
    kit.cache.clear().unwrap();
    assert!(kit.cache.load(&key(1)).is_none());
    drop(kit);
    assert_eq!(thread::spawn(move || image.to_vec()).join().unwrap(), b"code");
}

#[test]
fn one_flipped_bit_anywhere_is_refused() {
    let kit = Kit::holding(&code(300));
    let path = kit.path(&key(1));
    let good = fs::read(&path).unwrap();
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1 << (at % 8);
        fs::write(&path, bad).unwrap();
        kit.assert_refused(&key(1), &format!("bit flipped in byte {at}"));
    }
    fs::write(&path, good).unwrap();
    assert!(kit.cache.load(&key(1)).is_some(), "the file itself was good");
}

#[test]
fn one_flipped_bit_in_megabytes_is_refused() {
    let len = 9 << 20;
    let kit = Kit::holding(&code(len));
    let path = kit.path(&key(1));
    let good = fs::read(&path).unwrap();
    for at in (header::LEN..good.len()).step_by(len / 23).chain([good.len() - 1]) {
        let mut bad = good.clone();
        bad[at] ^= 0x80;
        fs::write(&path, bad).unwrap();
        kit.assert_refused(&key(1), &format!("bit flipped in byte {at}"));
    }
}

#[test]
fn a_file_of_another_length_is_refused() {
    let kit = Kit::holding(&code(5000));
    let path = kit.path(&key(1));
    let good = fs::read(&path).unwrap();
    for len in (0..good.len()).step_by(37).chain([header::LEN, header::LEN + 1, good.len() - 1]) {
        fs::write(&path, &good[..len]).unwrap();
        kit.assert_refused(&key(1), &format!("cut to {len} bytes"));
    }
    for more in [1, 4096] {
        fs::write(&path, [good.as_slice(), &vec![0; more]].concat()).unwrap();
        kit.assert_refused(&key(1), &format!("{more} bytes longer"));
    }
}

#[test]
fn what_this_installation_did_not_write_is_refused() {
    let kit = Kit::holding(b"ours");
    let path = kit.path(&key(1));
    let foreign = Kit::holding(b"theirs");
    let theirs = fs::read(foreign.path(&key(1))).unwrap();
    for (what, bytes) in [
        ("another installation's file", theirs),
        ("zeros", vec![0; 10_000]),
        ("an ELF file", fs::read("/proc/self/exe").unwrap()[..20_000].to_vec()),
    ] {
        fs::write(&path, bytes).unwrap();
        kit.assert_refused(&key(1), what);
    }
}

#[test]
fn a_file_under_another_keys_name_is_refused() {
    let kit = Kit::holding(b"code");
    let mut engine = [7; 32];
    engine[31] = 8;
    let same_name = Key { engine, ..key(1) };
    assert_eq!(kit.path(&same_name), kit.path(&key(1)), "names show only part of the engine");
    for other in [key(2), Key { engine: [9; 32], ..key(1) }, same_name] {
        let _ = fs::copy(kit.path(&key(1)), kit.path(&other));
        kit.assert_refused(&other, &format!("{other:?}"));
    }
}

#[test]
fn what_is_no_file_is_refused() {
    let kit = Kit::holding(b"code");
    let (path, elsewhere) = (kit.path(&key(1)), kit.folder.path().join("elsewhere"));
    fs::rename(&path, &elsewhere).unwrap();
    symlink(&elsewhere, &path).unwrap();
    kit.assert_refused(&key(1), "a link to the authentic file");
    rustix::fs::mknodat(rustix::fs::CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)
        .unwrap();
    kit.assert_refused(&key(1), "a pipe");

    fs::create_dir(&path).unwrap();
    assert!(kit.cache.load(&key(1)).is_none());
    assert!(matches!(kit.cache.store(&key(1), b"code"), Err(Error::Io { .. })));
    assert_eq!(kit.names(), [key(1).file_name(), "elsewhere".into(), "secret".into()]);
}

#[test]
fn a_refused_file_can_be_stored_again() {
    let kit = Kit::holding(b"code");
    fs::write(kit.path(&key(1)), b"torn").unwrap();
    kit.assert_refused(&key(1), "torn");
    kit.cache.store(&key(1), b"code").unwrap();
    assert_eq!(*kit.cache.load(&key(1)).unwrap(), *b"code");
}

#[test]
fn a_file_that_changes_while_it_is_open_is_not_given_out() {
    // The copy that is checked is the one that is given out: no moment is left to swap the code.
    let code = code(2 << 20);
    let kit = Kit::holding(&code);
    let path = kit.path(&key(1));
    let good = fs::read(&path).unwrap();
    thread::scope(|scope| {
        let flipping = scope.spawn(|| {
            for round in 0..200 {
                let file = fs::File::options().write(true).create(true).truncate(false).open(&path);
                let byte = good[good.len() - 1] ^ (round % 2) as u8;
                file.unwrap().write_all_at(&[byte], good.len() as u64 - 1).unwrap();
            }
        });
        while !flipping.is_finished() {
            if let Some(image) = kit.cache.load(&key(1)) {
                assert!(*image == *code);
            }
            fs::write(&path, &good).unwrap();
        }
    });
}

#[test]
fn racing_openers_agree_on_one_secret() {
    const OPENERS: usize = 8;
    for round in 0..20 {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cache");
        let start = Barrier::new(OPENERS);
        let caches: Vec<CodeCache> = thread::scope(|scope| {
            let openers: Vec<_> = (0..OPENERS)
                .map(|_| {
                    scope.spawn(|| {
                        start.wait();
                        CodeCache::open(&path, LIMIT).unwrap()
                    })
                })
                .collect();
            openers.into_iter().map(|opener| opener.join().unwrap()).collect()
        });
        caches[round % OPENERS].store(&key(1), b"code").unwrap();
        assert!(caches.iter().all(|cache| cache.load(&key(1)).is_some()), "secrets differ");
        assert_eq!(fs::read_dir(&path).unwrap().count(), 2, "only the secret and the code stay");
    }
}

#[test]
fn racing_writers_and_readers_of_one_key_never_meet_a_torn_file() {
    const ROUNDS: usize = 50;
    let code = code(200_000);
    let kit = Kit::holding(&code);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let cache = CodeCache::open(kit.folder.path(), LIMIT).unwrap();
                for _ in 0..ROUNDS {
                    cache.store(&key(1), &code).unwrap();
                    assert!(*cache.load(&key(1)).unwrap() == *code);
                }
            });
        }
    });
    assert_eq!(kit.names(), [key(1).file_name(), "secret".into()]);
}

#[test]
fn racing_evictions_do_no_harm() {
    let kit = Kit::new(10 * 10_000);
    thread::scope(|scope| {
        for writer in 0..4 {
            let folder = kit.folder.path();
            scope.spawn(move || {
                let cache = CodeCache::open(folder, 10 * 10_000).unwrap();
                for number in 0..50 {
                    cache.store(&key(writer * 50 + number), &code(5000)).unwrap();
                }
            });
        }
    });
    kit.cache.store(&key(250), b"last").unwrap();
    let stats = kit.cache.stats().unwrap();
    assert!((1..=100_000).contains(&stats.bytes), "{stats:?}");
    assert!(kit.cache.load(&key(250)).is_some());
}

#[test]
fn the_least_recently_used_are_evicted() {
    let size = (header::LEN + 10_000) as u64;
    let kit = Kit::new(3 * size);
    for number in 1..=3 {
        kit.cache.store(&key(number), &code(10_000)).unwrap();
        kit.age(&key(number), 10 - u64::from(number));
    }
    assert!(kit.cache.load(&key(1)).is_some(), "the oldest, but used just now");

    kit.cache.store(&key(4), &code(10_000)).unwrap();
    assert_eq!(
        [1, 2, 3, 4].map(|number| kit.path(&key(number)).exists()),
        [true, false, true, true]
    );
    kit.age(&key(1), 1);
    kit.cache.store(&key(5), &code(20_000)).unwrap();
    let left = [1, 3, 4, 5].map(|number| kit.path(&key(number)).exists());
    assert_eq!(left, [false, false, true, true]);
    assert!(kit.cache.stats().unwrap().bytes <= 3 * size);
}

#[test]
fn what_cannot_fit_is_not_stored_and_evicts_nothing() {
    let kit = Kit::new((header::LEN + 10_000) as u64);
    kit.cache.store(&key(1), &code(10_000)).unwrap();
    kit.cache.store(&key(2), &code(10_001)).unwrap();
    kit.cache.store(&key(3), b"").unwrap();
    assert_eq!(kit.names(), [key(1).file_name(), "secret".into()]);
    assert!(kit.cache.load(&key(1)).is_some());
}

#[test]
fn leftovers_of_dead_writers_are_removed_after_an_hour() {
    let kit = Kit::new(LIMIT);
    for (name, hours) in [("a.1.tmp", 2), ("b.2.tmp", 0), ("secret.3.tmp", 2), ("notes.txt", 9)] {
        let path = kit.folder.path().join(name);
        fs::write(&path, "half").unwrap();
        age(&path, hours);
    }
    kit.cache.store(&key(1), b"code").unwrap();
    assert_eq!(kit.names(), [key(1).file_name().as_str(), "b.2.tmp", "notes.txt", "secret"]);

    kit.cache.clear().unwrap();
    assert_eq!(kit.names(), ["notes.txt", "secret"]);
}

#[test]
fn only_this_user_can_read_what_is_created() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("deep/cache");
    let cache = CodeCache::open(&folder, LIMIT).unwrap();
    cache.store(&key(1), b"code").unwrap();
    let mode = |path: PathBuf| fs::metadata(path).unwrap().mode() & 0o7777;
    assert_eq!(mode(folder.clone()), 0o700);
    assert_eq!(mode(folder.join("secret")), 0o600);
    assert_eq!(mode(folder.join(key(1).file_name())), 0o600);
    assert_eq!(fs::read(folder.join("secret")).unwrap().len(), 32);
}

/// Opening fails, and the message says `problem`.
fn assert_untrusted(folder: &Path, problem: &str) {
    match CodeCache::open(folder, LIMIT) {
        Err(error @ Error::Untrusted { .. }) => {
            assert!(error.to_string().contains(problem), "`{error}` does not say `{problem}`");
        }
        other => panic!("{problem}: {other:?}"),
    }
}

#[test]
fn a_folder_that_others_can_write_to_is_refused() {
    for mode in [0o777, 0o1777, 0o770, 0o702] {
        let kit = Kit::holding(b"code");
        fs::set_permissions(kit.folder.path(), fs::Permissions::from_mode(mode)).unwrap();
        assert_untrusted(kit.folder.path(), &format!("is open to others with mode `{mode:04o}`"));
    }
}

#[test]
fn a_secret_that_others_know_or_made_is_refused() {
    for mode in [0o644, 0o640, 0o606] {
        let kit = Kit::holding(b"code");
        let secret = kit.folder.path().join("secret");
        fs::set_permissions(secret, fs::Permissions::from_mode(mode)).unwrap();
        assert_untrusted(kit.folder.path(), &format!("is open to others with mode `{mode:04o}`"));
    }
    let kit = Kit::holding(b"code");
    let secret = kit.folder.path().join("secret");
    for bytes in [31, 33, 0] {
        fs::write(&secret, vec![1; bytes]).unwrap();
        assert_untrusted(kit.folder.path(), "is not 32 bytes long");
    }
    fs::rename(&secret, kit.folder.path().join("elsewhere")).unwrap();
    symlink("elsewhere", &secret).unwrap();
    assert_untrusted(kit.folder.path(), "is a symbolic link");
    fs::remove_file(&secret).unwrap();
    fs::create_dir(&secret).unwrap();
    assert_untrusted(kit.folder.path(), "is not a regular file");
}

#[test]
fn what_belongs_to_another_user_is_refused() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can give files away");
        return;
    }
    let kit = Kit::holding(b"code");
    std::os::unix::fs::chown(kit.folder.path().join("secret"), Some(4711), None).unwrap();
    assert_untrusted(kit.folder.path(), "belongs to user `4711`");
    let kit = Kit::holding(b"code");
    std::os::unix::fs::chown(kit.folder.path(), Some(4711), None).unwrap();
    assert_untrusted(kit.folder.path(), "belongs to user `4711`");
}

#[test]
fn the_secret_is_never_printed() {
    let kit = Kit::new(LIMIT);
    let secret = fs::read(kit.folder.path().join("secret")).unwrap();
    let printed = format!("{:?}", kit.cache);
    assert!(printed.contains("Secret(…)"), "{printed}");
    let decimal = secret.iter().map(u8::to_string).collect::<Vec<_>>().join(", ");
    assert!(!printed.contains(&decimal), "{printed}");
}

#[test]
fn a_new_secret_makes_old_files_foreign() {
    let kit = Kit::holding(b"code");
    fs::remove_file(kit.folder.path().join("secret")).unwrap();
    let cache = CodeCache::open(kit.folder.path(), LIMIT).unwrap();
    assert!(cache.load(&key(1)).is_none());
    assert_eq!(cache.stats().unwrap().rejected, 1);
}

/// Runs `act` on a thread that has no more rights than any user.
fn without_rights(act: impl FnOnce() + Send) {
    thread::scope(|scope| {
        scope.spawn(|| {
            if rustix::process::geteuid().is_root() {
                let nobody = rustix::process::Uid::from_raw(65534);
                // The raw system call: it concerns this thread alone.
                rustix::thread::set_thread_res_uid(nobody, nobody, nobody).unwrap();
            }
            act();
        });
    });
}

#[test]
fn a_read_only_folder_costs_time_and_nothing_else() {
    let kit = Kit::holding(b"code");
    fs::set_permissions(kit.folder.path(), fs::Permissions::from_mode(0o555)).unwrap();
    fs::set_permissions(kit.path(&key(1)), fs::Permissions::from_mode(0o444)).unwrap();
    without_rights(|| {
        assert_eq!(*kit.cache.load(&key(1)).unwrap(), *b"code");
        assert!(kit.cache.load(&key(2)).is_none());
        let error = kit.cache.store(&key(2), b"more").unwrap_err();
        assert!(error.to_string().starts_with("could not create `"), "{error}");
        assert!(matches!(kit.cache.clear(), Err(Error::Io { action: "remove", .. })));
    });
    fs::set_permissions(kit.path(&key(1)), fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(kit.path(&key(1)), b"forged").unwrap();
    without_rights(|| {
        assert!(kit.cache.load(&key(1)).is_none(), "it cannot be removed, but is refused");
        assert!(kit.path(&key(1)).exists());
    });
    fs::set_permissions(kit.folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
}

#[test]
fn a_file_that_cannot_be_read_is_a_miss() {
    let kit = Kit::holding(b"code");
    fs::set_permissions(kit.path(&key(1)), fs::Permissions::from_mode(0o000)).unwrap();
    fs::set_permissions(kit.folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    without_rights(|| assert!(kit.cache.load(&key(1)).is_none()));
    let stats = kit.cache.stats().unwrap();
    assert_eq!((stats.files, stats.misses, stats.rejected), (1, 1, 0));
}

#[test]
fn a_folder_that_disappears_gives_errors_not_panics() {
    let kit = Kit::holding(b"code");
    fs::remove_dir_all(kit.folder.path()).unwrap();
    assert!(kit.cache.load(&key(1)).is_none());
    assert!(matches!(kit.cache.store(&key(1), b"code"), Err(Error::Io { .. })));
}

#[test]
fn a_file_in_place_of_the_folder_is_an_error() {
    let file = tempfile::NamedTempFile::new().unwrap();
    assert!(matches!(CodeCache::open(file.path(), LIMIT), Err(Error::Io { .. })));
}
