//! What the server itself does on this machine, with the same durability and the same sizes of batches as the store and
//! nothing of what the store does beyond it: the floor that `omniq bench` holds the store against.
//!
//! A string for each task, a sorted set of what is ready, and two small scripts. Keeping rows, what runs is in one hash;
//! keeping tasks, each has a hash of its own, its session a set, and what has ended a sorted set by time. Neither checks ids
//! for repetition or whether a session lives.

use std::time::{Duration, Instant};

use redis::Script;
use redis::aio::MultiplexedConnection;

use super::config::Config;
use super::fault::Fault;
use crate::Result;
use crate::floor::Keeps;

/// Bytes of a body: about those of a task with two small arguments.
const BODY: &[u8] = &[7; 160];

const INSERT: &str = "
    local ready = {}
    for index = 1, #ARGV, 2 do
      redis.call('SET', '{floor}:b:' .. ARGV[index], ARGV[index + 1], 'NX')
      ready[#ready + 1], ready[#ready + 2] = index, ARGV[index]
    end
    redis.call('ZADD', KEYS[1], unpack(ready))";

const CLAIM: &str = "
    local popped, claimed, answer = redis.call('ZPOPMIN', KEYS[1], ARGV[1]), {}, {}
    for index = 1, #popped, 2 do
      claimed[#claimed + 1], claimed[#claimed + 2] = popped[index], ARGV[2]
      answer[#answer + 1], answer[#answer + 2] = popped[index], redis.call('GET', '{floor}:b:' .. popped[index])
    end
    if #claimed > 0 then redis.call('HSET', KEYS[2], unpack(claimed)) end
    return answer";

const FINISH: &str = "
    local done = 0
    for index = 2, #ARGV do
      if redis.call('HGET', KEYS[1], ARGV[index]) == ARGV[1] then
        redis.call('HDEL', KEYS[1], ARGV[index])
        redis.call('SET', '{floor}:r:' .. ARGV[index], '246')
        redis.call('DEL', '{floor}:b:' .. ARGV[index])
        done = done + 1
      end
    end
    return done";

const CLAIM_TASKS: &str = "
    local clock = redis.call('TIME')
    local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
    local popped, held, answer = redis.call('ZPOPMIN', KEYS[1], ARGV[1]), {}, {}
    for index = 1, #popped, 2 do
      local id = popped[index]
      local key = '{floor}:h:' .. id
      redis.call('HSET', key, 's', 1, 'f', 1, 'no', ARGV[2], 'a', 1, 'ses', 1, 'dl', now + 30000, 'at', now)
      held[#held + 1] = id
      answer[#answer + 1], answer[#answer + 2] = id, redis.call('GET', '{floor}:b:' .. id)
    end
    if #held > 0 then redis.call('SADD', KEYS[2], unpack(held)) end
    return answer";

const FINISH_TASKS: &str = "
    local clock = redis.call('TIME')
    local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
    local done = 0
    for index = 2, #ARGV do
      local id = ARGV[index]
      local key = '{floor}:h:' .. id
      local head = redis.call('HMGET', key, 's', 'f', 'no')
      if head[1] == '1' and head[2] == '1' and head[3] == ARGV[1] then
        redis.call('HSET', key, 's', 4, 'end', now, 'r', '246')
        redis.call('PEXPIRE', key, 86400000)
        redis.call('SREM', KEYS[1], id)
        redis.call('ZADD', KEYS[2], now, id)
        redis.call('DEL', '{floor}:b:' .. id)
        done = done + 1
      end
    end
    return done";

/// A bare server.
pub struct Floor {
    connection: MultiplexedConnection,
    keeps: Keeps,
    inserted: u64,
    config: Config,
}

impl std::fmt::Debug for Floor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Floor").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Floor {
    /// A connection to the first server of that configuration. Keys whose names begin with `{floor}` are its own; they are
    /// forgotten when it begins.
    ///
    /// # Errors
    /// The server cannot be reached.
    pub async fn open(config: &Config, keeps: Keeps) -> Result<Self> {
        let fail = |error: redis::RedisError| {
            Fault::from(error).into_error(config.place(), "measure its floor")
        };
        let server = config
            .servers()
            .first()
            .cloned()
            .ok_or_else(|| crate::Error::Config("a floor needs a server".to_owned()))?;
        let client = redis::Client::open(server).map_err(fail)?;
        let settings = redis::AsyncConnectionConfig::new().set_response_timeout(None);
        let connection =
            client.get_multiplexed_async_connection_with_config(&settings).await.map_err(fail)?;
        let floor = Self { connection, keeps, inserted: 0, config: config.clone() };
        let keys = ["{floor}:ready", "{floor}:claimed", "{floor}:ended"];
        floor.command(redis::cmd("UNLINK").arg(&keys)).await?;
        Ok(floor)
    }

    /// Inserts `rows` rows, `batch` in each script; returns how long it took.
    ///
    /// # Errors
    /// The server fails.
    pub async fn insert(&mut self, rows: usize, batch: usize) -> Result<Duration> {
        let (script, started) = (Script::new(INSERT), Instant::now());
        let mut left = rows;
        while left > 0 {
            let count = left.min(batch.max(1));
            left -= count;
            let mut call = script.prepare_invoke();
            call.key("{floor}:ready");
            for _ in 0..count {
                self.inserted += 1;
                call.arg(&u128::from(self.inserted).to_be_bytes()[..]).arg(BODY);
            }
            let done: redis::RedisResult<redis::Value> =
                call.invoke_async(&mut self.connection).await;
            done.map_err(|error| self.failed(error))?;
        }
        Ok(started.elapsed())
    }

    /// Claims and finishes all rows, `batch` at a time, in two scripts each; returns how many and how long it took.
    ///
    /// # Errors
    /// The server fails.
    pub async fn drain(&mut self, batch: usize) -> Result<(usize, Duration)> {
        let (claim, finish) = match self.keeps {
            Keeps::Row => (Script::new(CLAIM), Script::new(FINISH)),
            Keeps::Task => (Script::new(CLAIM_TASKS), Script::new(FINISH_TASKS)),
        };
        let started = Instant::now();
        let mut drained = 0;
        loop {
            let mut call = claim.prepare_invoke();
            call.key("{floor}:ready").key("{floor}:claimed").arg(batch).arg("nonce");
            let claimed: redis::RedisResult<Vec<Vec<u8>>> =
                call.invoke_async(&mut self.connection).await;
            let claimed = claimed.map_err(|error| self.failed(error))?;
            if claimed.is_empty() {
                return Ok((drained, started.elapsed()));
            }
            let mut call = finish.prepare_invoke();
            call.key("{floor}:claimed").key("{floor}:ended").arg("nonce");
            for id in claimed.iter().step_by(2) {
                call.arg(id);
            }
            let done: redis::RedisResult<usize> = call.invoke_async(&mut self.connection).await;
            drained += done.map_err(|error| self.failed(error))?;
        }
    }

    async fn command(&self, command: &redis::Cmd) -> Result<()> {
        let mut connection = self.connection.clone();
        let done: redis::RedisResult<redis::Value> = command.query_async(&mut connection).await;
        done.map(|_| ()).map_err(|error| self.failed(error))
    }

    fn failed(&self, error: redis::RedisError) -> crate::Error {
        Fault::from(error).into_error(self.config.place(), "measure its floor")
    }
}
