//! Named places where a test of crashes kills the process. Only debug builds, and builds with the feature `failpoints`,
//! have them; anywhere else [`hit`] is empty.
//!
//! `OMNIQ_FAILPOINT=sqlite.finish.after_commit` dies at the first hit of that name, `…:3` at the third. The process
//! aborts as by `kill -9`: nothing is flushed, nothing unwinds.

/// Dies here if the environment says so.
#[inline]
pub fn hit(name: &str) {
    #[cfg(any(debug_assertions, feature = "failpoints"))]
    armed::hit(name);
    #[cfg(not(any(debug_assertions, feature = "failpoints")))]
    let _ = name;
}

#[cfg(any(debug_assertions, feature = "failpoints"))]
mod armed {
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    /// The variable that arms a point.
    const VARIABLE: &str = "OMNIQ_FAILPOINT";

    struct Armed {
        name: String,
        left: AtomicU64,
    }

    static ARMED: LazyLock<Option<Armed>> = LazyLock::new(|| {
        let text = std::env::var(VARIABLE).ok().filter(|text| !text.is_empty())?;
        let (name, count) = text.split_once(':').unwrap_or((&text, "1"));
        let left = AtomicU64::new(count.parse().unwrap_or(1));
        Some(Armed { name: name.to_owned(), left })
    });

    pub fn hit(name: &str) {
        let Some(armed) = &*ARMED else { return };
        if armed.name == name && armed.left.fetch_sub(1, Ordering::Relaxed) == 1 {
            std::process::abort();
        }
    }
}
