use omniq_model::{Name, Schedule, Timing};

use super::*;
use crate::{Fire, Fired};

fn schedule(name: &str, next: Option<Timestamp>) -> Schedule {
    Schedule {
        tenant: Name::default(),
        name: name.parse().unwrap(),
        timing: Timing::Cron("@daily".into()),
        zone: String::new(),
        missed: Default::default(),
        task: task("template"),
        paused: None,
        next,
        version: 0,
        unknown: Default::default(),
    }
}

fn put(kit: &mut Kit, schedule: &Schedule) -> Option<u64> {
    kit.call(|core, _| core.put_schedules(vec![schedule.clone()]))[0]
}

fn due(kit: &Kit) -> Vec<String> {
    kit.core.due_schedules(kit.now, 9).iter().map(|due| due.name.to_string()).collect()
}

fn key(name: &str) -> (Name, Name) {
    (Name::default(), name.parse().unwrap())
}

#[test]
fn a_change_must_have_seen_the_latest_version() {
    let mut kit = Kit::new();
    let mut daily = schedule("daily", None);
    let first = put(&mut kit, &daily).unwrap();
    assert_eq!(put(&mut kit, &daily), None, "the name is taken");
    daily.version = first;
    daily.zone = "Europe/Berlin".into();
    let second = put(&mut kit, &daily).unwrap();
    assert!(second > first);
    assert_eq!(put(&mut kit, &daily), None, "it saw an older one");
    let stored = kit.core.schedules(None);
    assert_eq!((stored[0].version, stored[0].zone.as_str()), (second, "Europe/Berlin"));
    daily.version = second + 9;
    assert_eq!(put(&mut kit, &daily), None);
    daily.name = "unknown".parse().unwrap();
    assert_eq!(put(&mut kit, &daily), None, "there is none to change");
}

#[test]
fn a_name_used_again_never_has_an_old_version() {
    let mut kit = Kit::new();
    let at = Some(kit.now);
    let old = put(&mut kit, &schedule("daily", at)).unwrap();
    let removed = kit.call(|core, _| core.remove_schedules(&[key("daily"), key("nobody")]));
    assert_eq!(removed, [true, false]);
    put(&mut kit, &schedule("daily", at)).unwrap();
    assert_eq!(fire(&mut kit, "daily", old, vec![task("t")]), Fired::Lost);
}

#[test]
fn the_longest_due_comes_first_and_paused_ones_do_not() {
    let mut kit = Kit::new();
    let now = kit.now;
    let paused = Schedule { paused: Some(now), ..schedule("paused", Some(now)) };
    let all = vec![
        schedule("now", Some(now)),
        schedule("early", Some(now - SECOND)),
        schedule("later", Some(now + SECOND)),
        schedule("never", None),
        paused,
    ];
    kit.call(|core, _| core.put_schedules(all));
    assert_eq!(due(&kit), ["early", "now"]);
    assert_eq!(kit.core.due_schedules(now, 1).len(), 1);
    let names: Vec<_> = kit.core.schedules(None).iter().map(|all| all.name.to_string()).collect();
    assert_eq!(names, ["early", "later", "never", "now", "paused"]);
    assert!(kit.core.schedules(Some(&"acme".parse().unwrap())).is_empty());
}

fn fire(kit: &mut Kit, name: &str, version: u64, tasks: Vec<Task>) -> Fired {
    let fire = Fire {
        tenant: Name::default(),
        name: name.parse().unwrap(),
        version,
        next: Some(kit.now + SECOND),
        tasks,
    };
    kit.call(|core, now| core.fire(now, vec![fire]))[0]
}

#[test]
fn a_schedule_fires_once_per_version() {
    let mut kit = Kit::new();
    let daily = schedule("daily", Some(kit.now));
    let version = put(&mut kit, &daily).unwrap();
    assert_eq!(fire(&mut kit, "daily", version, vec![task("t")]), Fired::Fired);
    assert_eq!(kit.state("t"), State::Ready);
    assert_eq!(fire(&mut kit, "daily", version, vec![task("u")]), Fired::Lost);
    assert!(!kit.exists("u"));
    assert!(due(&kit).is_empty());
    kit.advance(SECOND);
    assert_eq!(due(&kit), ["daily"]);
    let version = kit.core.schedules(None)[0].version;
    assert_eq!(fire(&mut kit, "daily", version, vec![task("t")]), Fired::Fired, "made before");
}

#[test]
fn a_paused_or_removed_schedule_does_not_fire() {
    let mut kit = Kit::new();
    let daily = schedule("daily", Some(kit.now));
    let version = put(&mut kit, &daily).unwrap();
    let paused = Schedule { version, paused: Some(kit.now), ..schedule("daily", Some(kit.now)) };
    let paused = put(&mut kit, &paused).unwrap();
    for version in [version, paused] {
        assert_eq!(fire(&mut kit, "daily", version, vec![task("t")]), Fired::Lost);
    }
    assert_eq!(fire(&mut kit, "nobody", 0, vec![task("t")]), Fired::Lost);
    assert!(!kit.exists("t"));
}
