//! Many clients at once on one store that loses calls and answers: what they did is written down, then everything is
//! drained, and the history is checked.

mod client;
mod told;

use std::sync::Arc;
use std::time::Duration;

use omniq_model::{Missed, Name, Schedule, Timing};
use omniq_store::{End, ErrorKind, Held, Result, Want};

use crate::factory::Factory;
use crate::faulty::Faulty;
use crate::history::{self, Entry, Recorder, Verdict, What};
use crate::kit::{Kit, LEASE, START, TICK, lane, name};
use crate::roll::Rolls;

use self::client::Client;
use self::told::*;

/// How a run is made.
#[derive(Debug, Clone, Copy)]
pub struct Stress {
    /// Everything random follows from it, but for the order in which clients get their turns.
    pub seed: u64,
    /// How many clients there are.
    pub clients: u32,
    /// Steps of each client.
    pub steps: u32,
    /// Of 1000 calls, so many are lost before they arrive, and of 1000 answers as many.
    pub faults: u32,
}

/// Lets the clients loose on a fresh store, drains it, and says what the checker found.
///
/// # Panics
/// When the store answers with another error than the injected ones.
pub async fn stress(factory: &dyn Factory, run: Stress) -> Verdict {
    let kit = Kit::new(factory).await;
    let store = Arc::new(Faulty::random(kit.store.clone(), run.seed, run.faults, run.faults));
    let recorder = Arc::new(Recorder::default());
    let schedules: Vec<_> = ["hourly", "nightly"].map(|called| schedule(&kit, called)).into();
    kit.store.put_schedules(schedules).await.unwrap();
    let mut clients = tokio::task::JoinSet::new();
    for number in 0..run.clients {
        let rolls = Rolls::new(run.seed ^ (u64::from(number) + 1) << 32);
        let kit = kit.with_store(store.clone());
        let mut client = Client::new(number, kit, Arc::clone(&recorder), rolls);
        clients.spawn(async move {
            for _ in 0..run.steps {
                client.step().await;
                tokio::task::yield_now().await;
            }
        });
    }
    // A panic of a client is the panic of the test.
    clients.join_all().await;
    println!("seed {}, {} calls or answers were lost", run.seed, store.heal());
    drain(&kit, &recorder, run.clients).await;
    let records = kit.dump().await;
    crate::audit::audit(&*kit.store).await;
    let mut entries = recorder.entries();
    entries.extend(instants(&kit.store.schedules(None).await.unwrap()));
    kit.store.close().await.unwrap();
    history::check(&entries, &records)
}

/// How often schedules fire.
const PERIOD: Duration = Duration::from_secs(1);

fn schedule(kit: &Kit, called: &str) -> Schedule {
    Schedule {
        tenant: Name::default_name(),
        name: name(called),
        timing: Timing::Every(PERIOD.into()),
        zone: String::new(),
        missed: Missed::All,
        task: kit.task(),
        paused: None,
        next: Some(START + PERIOD),
        version: 0,
        unknown: Default::default(),
    }
}

/// Every instant that a schedule has left behind must have made its task: no answer is needed for that promise.
fn instants(schedules: &[Schedule]) -> Vec<Entry> {
    let mut entries = Vec::new();
    for schedule in schedules {
        let (mut nominal, next) = (START + PERIOD, schedule.next.expect("it goes on for ever"));
        while nominal < next {
            let task = Schedule::task_id(&schedule.tenant, &schedule.name, nominal);
            entries.push(Entry::acked(task));
            nominal = nominal + PERIOD;
        }
    }
    entries
}

/// Whether a call was answered; `None` when call or answer was lost.
fn answered<T>(answer: Result<T>) -> Option<T> {
    match answer {
        Ok(answer) => Some(answer),
        Err(error) if error.kind() == ErrorKind::Unavailable => None,
        Err(error) => panic!("{error}"),
    }
}

/// Promotes, reclaims and expires.
async fn sweep(kit: &Kit, recorder: &Recorder, client: u32) {
    answered(kit.store.promote(20).await);
    let call = recorder.begin(client, kit.now());
    if let Some(reclaimed) = answered(kit.store.reclaim(20).await) {
        recorder.end(call, kit.now(), reclaimed.iter().map(moved));
    }
    let call = recorder.begin(client, kit.now());
    if let Some(expired) = answered(kit.store.expire(20).await) {
        recorder.end(call, kit.now(), expired.iter().map(moved));
    }
}

/// How often a drain sweeps and claims before it gives up: many times what the longest chain of retries and delays needs.
const ROUNDS: u32 = 3000;

/// Ends everything that has not ended: dead sessions are reclaimed, what is ready is run. What is left after [`ROUNDS`]
/// is for the checker to tell.
async fn drain(kit: &Kit, recorder: &Recorder, client: u32) {
    kit.advance(LEASE + TICK);
    let session = kit.session().await;
    for _ in 0..ROUNDS {
        if kit.store.is_idle().await.unwrap() {
            return;
        }
        kit.advance(TICK * 100);
        kit.store.heartbeat(&session, Held::default()).await.unwrap();
        sweep(kit, recorder, client).await;
        let lanes = [Default::default(), lane("acme", "media")];
        let wants = lanes.map(|lane| Want::new(lane, 50, kit.fresh()));
        let call = recorder.begin(client, kit.now());
        let leases = kit.store.claim(&session, &wants).await.unwrap();
        recorder.end(
            call,
            kit.now(),
            leases.iter().map(|lease| What::Claim {
                task: lease.id,
                token: lease.token,
                session: Some(session.id),
                attempt: lease.attempt,
            }),
        );
        let end = |lease: &omniq_store::Lease| {
            let how = succeeded(lease.id, lease.token);
            End { id: lease.id, token: lease.token, how }
        };
        let ends: Vec<_> = leases.iter().map(end).collect();
        let call = recorder.begin(client, kit.now());
        let answers = kit.store.finish(&session, ends.clone()).await.unwrap();
        let pairs = ends.iter().zip(answers);
        recorder.end(call, kit.now(), pairs.map(|(end, answer)| finished(end, Some(answer))));
    }
    println!("the store does not drain: {:?}", kit.counts().await);
}
