//! The processes that descend from one, signalled through handles, so that a number that was given away is never hit.

use std::collections::HashMap;
use std::fs;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// Handles of processes, and their numbers.
#[derive(Debug)]
pub(crate) struct Family(Vec<(u32, OwnedFd)>);

impl Family {
    /// That process alone.
    pub fn of(pid: u32) -> Self {
        Self(open(pid).into_iter().collect())
    }

    /// All that descend from that process, without itself.
    pub fn below(ancestor: u32) -> Self {
        Self(descendants(ancestor).into_iter().filter_map(open).collect())
    }

    /// The same, all of them stopped. Nobody who is stopped starts another, so none is missed.
    pub fn stopped(ancestor: u32) -> Self {
        let mut known = 0;
        loop {
            let family = Self::below(ancestor);
            family.signal(Signal::STOP);
            if family.0.len() == known {
                family.still();
                return family;
            }
            known = family.0.len();
        }
    }

    /// Waits until each that was told to stop does nothing any more: threads that are at work on another processor only hear
    /// of it a moment later, and answer until then.
    pub fn still(&self) {
        for (pid, _) in &self.0 {
            while !is_still(*pid) {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }

    /// Sends the signal to each that is still there.
    pub fn signal(&self, signal: Signal) {
        for (_, process) in &self.0 {
            // An error says that it has ended, which is what the others are told anyway.
            let _ = pidfd_send_signal(process, signal);
        }
    }

    /// Waits for the end of all.
    pub fn ended(&self) {
        for (_, process) in &self.0 {
            let mut watched = [PollFd::new(process, PollFlags::IN)];
            while poll(&mut watched, None) == Err(rustix::io::Errno::INTR) {}
        }
    }
}

fn open(pid: u32) -> Option<(u32, OwnedFd)> {
    let raw = Pid::from_raw(i32::try_from(pid).ok()?)?;
    Some((pid, pidfd_open(raw, PidfdFlags::empty()).ok()?))
}

/// Whether all threads of a process are stopped, or have ended.
fn is_still(pid: u32) -> bool {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return true };
    threads.flatten().all(|thread| {
        let stat = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        let state = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().next());
        matches!(state, None | Some("T" | "t" | "Z" | "X"))
    })
}

/// The descendants that have not ended, each after its parent.
fn descendants(ancestor: u32) -> Vec<u32> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for process in fs::read_dir("/proc").expect("Linux has /proc").flatten() {
        let pid = process.file_name().to_str().and_then(|name| name.parse().ok());
        let Some(pid) = pid else { continue };
        if let Some(parent) = parent(pid) {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut found = vec![ancestor];
    let mut next = 0;
    while let Some(parent) = found.get(next) {
        next += 1;
        found.extend(children.remove(parent).unwrap_or_default());
    }
    found.split_off(1)
}

/// The parent of a process that has not ended. The name in parentheses may hold anything; then come state and parent.
fn parent(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit(')').next()?.split_whitespace();
    if fields.next() == Some("Z") { None } else { fields.next()?.parse().ok() }
}
