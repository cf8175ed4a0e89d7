//! A5. A schedule fires each instant once, however many schedulers there are, and the change of one is never lost.

use std::sync::Arc;
use std::time::Duration;

use omniq_model::{Missed, Name, Schedule, Span, State, TaskId, Timing};
use omniq_store::{Fire, Fired, TaskStore as _};

use crate::faulty::Faulty;
use crate::kit::{Kit, TICK, WHILE, name};

fn schedule(kit: &Kit, tenant: &str, called: &str) -> Schedule {
    Schedule {
        tenant: name(tenant),
        name: name(called),
        timing: Timing::Every(Span::from(WHILE)),
        zone: "Europe/Vienna".into(),
        missed: Missed::All,
        task: kit.task(),
        paused: None,
        next: Some(kit.now() + WHILE),
        version: 0,
        unknown: Default::default(),
    }
}

async fn put(kit: &Kit, schedule: &Schedule) -> Option<u64> {
    kit.store.put_schedules(vec![schedule.clone()]).await.unwrap().pop().unwrap()
}

/// Creates a schedule that is due after [`WHILE`]; as it is stored.
async fn created(kit: &Kit, called: &str) -> Schedule {
    let mut schedule = schedule(kit, "default", called);
    schedule.version = put(kit, &schedule).await.expect("the name is free");
    schedule
}

/// The next firing of that schedule.
fn firing(schedule: &Schedule) -> Fire {
    let nominal = schedule.next.expect("it is due");
    let mut task = schedule.task.clone();
    task.id = Schedule::task_id(&schedule.tenant, &schedule.name, nominal);
    Fire {
        tenant: schedule.tenant.clone(),
        name: schedule.name.clone(),
        version: schedule.version,
        next: Some(nominal + WHILE),
        tasks: vec![task],
    }
}

async fn fire(kit: &Kit, fire: &Fire) -> Fired {
    kit.store.fire(vec![fire.clone()]).await.unwrap().pop().unwrap()
}

async fn due(kit: &Kit) -> Vec<Name> {
    kit.store.due_schedules(100).await.unwrap().into_iter().map(|due| due.name).collect()
}

pub(crate) async fn schedules_are_kept_and_listed_by_name(kit: &Kit) {
    let mut all = Vec::new();
    for (tenant, called) in [("b", "x"), ("a", "z"), ("a", "y")] {
        let mut schedule = schedule(kit, tenant, called);
        schedule.version = put(kit, &schedule).await.unwrap();
        assert!(schedule.version > 0);
        all.push(schedule);
    }
    all.reverse();
    assert_eq!(kit.store.schedules(None).await.unwrap(), all);
    assert_eq!(kit.store.schedules(Some(&name("a"))).await.unwrap(), all[..2]);
    assert_eq!(kit.store.schedules(Some(&name("c"))).await.unwrap(), []);
}

pub(crate) async fn a_change_that_saw_an_older_version_is_refused(kit: &Kit) {
    let first = created(kit, "nightly").await;
    assert_eq!(put(kit, &schedule(kit, "default", "nightly")).await, None, "the name is taken");
    assert!(put(kit, &schedule(kit, "other", "nightly")).await.is_some(), "not for others");
    let mut mine = first.clone();
    mine.zone = "UTC".into();
    let version = put(kit, &mine).await.expect("it is the current version");
    assert!(version > first.version);
    assert_eq!(put(kit, &first).await, None, "somebody else was faster");
    let mut never = schedule(kit, "default", "never");
    never.version = 7;
    assert_eq!(put(kit, &never).await, None, "there is nothing to change");
    assert_eq!(kit.store.schedules(None).await.unwrap()[0].zone, "UTC");
}

pub(crate) async fn due_are_those_whose_instant_has_come(kit: &Kit) {
    for (called, after) in [("late", 2), ("early", 1), ("far", 100)] {
        let mut schedule = schedule(kit, "default", called);
        schedule.next = Some(kit.now() + Duration::from_secs(after));
        put(kit, &schedule).await.unwrap();
    }
    let mut never = schedule(kit, "default", "never");
    never.next = None;
    put(kit, &never).await.unwrap();
    let mut paused = schedule(kit, "default", "paused");
    (paused.next, paused.paused) = (Some(kit.now()), Some(kit.now()));
    put(kit, &paused).await.unwrap();
    assert_eq!(due(kit).await, []);
    kit.advance(Duration::from_secs(1) - TICK);
    assert_eq!(due(kit).await, []);
    kit.advance(TICK);
    assert_eq!(due(kit).await, [name("early")], "the instant itself is due");
    kit.advance(Duration::from_secs(9));
    assert_eq!(due(kit).await, [name("early"), name("late")], "the longest due comes first");
    assert_eq!(kit.store.due_schedules(1).await.unwrap().len(), 1);
}

pub(crate) async fn a_firing_makes_its_tasks_and_moves_on(kit: &Kit) {
    let schedule = created(kit, "nightly").await;
    kit.advance(WHILE);
    let firing = firing(&schedule);
    assert_eq!(fire(kit, &firing).await, Fired::Fired);
    assert_eq!(kit.claim_ids(&kit.session().await, 9).await, [firing.tasks[0].id]);
    let stored = kit.store.schedules(None).await.unwrap().pop().unwrap();
    assert_eq!(stored.next, firing.next);
    assert!(stored.version > schedule.version);
    assert_eq!(due(kit).await, []);
}

pub(crate) async fn the_second_scheduler_loses(kit: &Kit) {
    let schedule = created(kit, "nightly").await;
    kit.advance(WHILE);
    let first = firing(&schedule);
    let mut second = first.clone();
    second.tasks.push(kit.task());
    assert_eq!(fire(kit, &first).await, Fired::Fired);
    assert_eq!(fire(kit, &second).await, Fired::Lost);
    assert_eq!(fire(kit, &first).await, Fired::Lost);
    assert_eq!(kit.dump().await.len(), 1, "the loser makes nothing");
}

pub(crate) async fn many_schedulers_fire_each_instant_once(kit: &Kit) {
    created(kit, "nightly").await;
    let mut nominal = kit.now();
    for _ in 0..5 {
        kit.advance(WHILE);
        nominal = nominal + WHILE;
        let mut schedulers = tokio::task::JoinSet::new();
        for _ in 0..4 {
            let kit = kit.clone();
            schedulers.spawn(async move {
                let due = kit.store.due_schedules(9).await.unwrap();
                let fires = due.iter().map(firing).collect();
                kit.store.fire(fires).await.unwrap()
            });
        }
        let fired = schedulers.join_all().await.concat();
        assert_eq!(fired.iter().filter(|fired| **fired == Fired::Fired).count(), 1);
        let id = Schedule::task_id(&name("default"), &name("nightly"), nominal);
        assert!(kit.find(id).await.is_some());
    }
    assert_eq!(kit.dump().await.len(), 5);
}

pub(crate) async fn a_lost_answer_of_a_firing_makes_nothing_twice(kit: &Kit) {
    let faulty = Arc::new(Faulty::new(kit.store.clone()));
    let schedule = created(kit, "nightly").await;
    kit.advance(WHILE);
    let firing = firing(&schedule);
    faulty.lose_answer("fire");
    faulty.fire(vec![firing.clone()]).await.unwrap_err();
    assert_eq!(faulty.fire(vec![firing.clone()]).await.unwrap(), [Fired::Lost]);
    assert_eq!(kit.dump().await.len(), 1);
    assert_eq!(kit.store.schedules(None).await.unwrap()[0].next, firing.next);
}

pub(crate) async fn pausing_beats_a_firing_that_is_under_way(kit: &Kit) {
    let mut schedule = created(kit, "nightly").await;
    kit.advance(WHILE);
    let firing = firing(&schedule);
    schedule.paused = Some(kit.now());
    put(kit, &schedule).await.unwrap();
    assert_eq!(fire(kit, &firing).await, Fired::Lost);
    assert!(kit.dump().await.is_empty());
}

pub(crate) async fn removing_beats_a_firing_that_is_under_way(kit: &Kit) {
    let first = created(kit, "nightly").await;
    kit.advance(WHILE);
    let names = [(name("default"), name("nightly")), (name("default"), name("never"))];
    assert_eq!(kit.store.remove_schedules(&names).await.unwrap(), [true, false]);
    assert_eq!(fire(kit, &firing(&first)).await, Fired::Lost);
    let second = created(kit, "nightly").await;
    assert!(second.version > first.version, "no version is given twice");
    assert_eq!(fire(kit, &firing(&first)).await, Fired::Lost, "it meant the old one");
    assert!(kit.dump().await.is_empty());
}

pub(crate) async fn an_instant_that_made_its_task_before_makes_no_second(kit: &Kit) {
    let schedule = created(kit, "nightly").await;
    kit.advance(WHILE);
    let firing = firing(&schedule);
    kit.enqueue(firing.tasks[0].clone()).await;
    assert_eq!(fire(kit, &firing).await, Fired::Fired);
    assert_eq!(kit.dump().await.len(), 1);
}

pub(crate) async fn one_firing_may_make_many_tasks_or_none(kit: &Kit) {
    let schedule = created(kit, "nightly").await;
    kit.advance(WHILE);
    let mut many = firing(&schedule);
    many.tasks = (0..5).map(|_| kit.task()).collect();
    let ids: Vec<TaskId> = many.tasks.iter().map(|task| task.id).collect();
    many.next = None;
    assert_eq!(fire(kit, &many).await, Fired::Fired);
    assert_eq!(kit.states(&ids).await, [State::Ready; 5]);
    let over = kit.store.schedules(None).await.unwrap().pop().unwrap();
    assert_eq!(over.next, None);
    let none = Fire { version: over.version, next: Some(kit.now()), tasks: vec![], ..many };
    assert_eq!(fire(kit, &none).await, Fired::Fired);
    assert_eq!(due(kit).await, [name("nightly")]);
}

pub(crate) async fn schedules_survive_reopening(kit: &Kit) {
    let schedule = created(kit, "nightly").await;
    let kit = kit.reopen().await;
    assert_eq!(kit.store.schedules(None).await.unwrap(), std::slice::from_ref(&schedule));
    kit.advance(WHILE);
    assert_eq!(fire(&kit, &firing(&schedule)).await, Fired::Fired);
}
