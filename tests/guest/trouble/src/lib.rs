//! Functions that end badly, or take more than they should.

/// Trouble of all kinds.
#[omniq::tasks]
mod trouble {
    use std::hint::black_box;
    use std::time::Duration;

    /// Fails to be a whole answer.
    pub enum Wrong {
        Plainly,
        Because(String),
    }

    pub fn good(number: u32) -> u32 {
        number
    }

    pub fn fail(because: Option<String>) -> Result<u32, Wrong> {
        Err(because.map_or(Wrong::Plainly, Wrong::Because))
    }

    pub fn panic(message: String) -> u32 {
        deep_within(&message)
    }

    /// Its name is to be seen in the backtrace.
    #[inline(never)]
    fn deep_within(message: &str) -> u32 {
        panic!("{message}")
    }

    /// Leaves without a result, even with 0.
    pub fn exit(code: i32) -> u32 {
        std::process::exit(code)
    }

    pub fn divide(a: i32, b: i32) -> i32 {
        a / b
    }

    /// Never ends, and never asks the host for anything.
    pub fn spin() -> u64 {
        let mut count = 0_u64;
        loop {
            count = black_box(count).wrapping_add(1);
            if count == u64::MAX {
                return count;
            }
        }
    }

    /// Never ends, and asks the host again and again.
    pub fn spin_in_host() -> u64 {
        let mut count = 0_u64;
        while !omniq::context::cancelled() || black_box(true) {
            count = count.wrapping_add(1);
        }
        count
    }

    pub fn sleep(milliseconds: u64) {
        std::thread::sleep(Duration::from_millis(milliseconds));
    }

    /// Takes that much memory, and returns how much it got.
    pub fn allocate(mebibytes: u32) -> u64 {
        black_box(vec![1_u8; (mebibytes as usize) << 20]).len() as u64
    }

    /// Returns how much memory it was given before it was given no more; does not fail.
    pub fn allocate_all() -> u64 {
        let mut blocks: Vec<Vec<u8>> = Vec::new();
        loop {
            let mut block = Vec::new();
            if blocks.try_reserve(1).is_err() || block.try_reserve_exact(1 << 20).is_err() {
                return (black_box(blocks).len() as u64) << 20;
            }
            block.resize(1 << 20, 1);
            blocks.push(block);
        }
    }

    pub fn recurse(depth: u64) -> u64 {
        let frame = black_box([depth; 32]);
        match depth.checked_add(1) {
            Some(deeper) => recurse(deeper) + frame[31],
            None => 0,
        }
    }

    /// A result of that many bytes.
    pub fn bytes(count: u32) -> Vec<u8> {
        vec![7; count as usize]
    }

    /// A result of that many small texts.
    pub fn texts(count: u32) -> Vec<String> {
        (0..count).map(|number| number.to_string()).collect()
    }

    /// How many bytes came in.
    pub fn size(bytes: &[u8]) -> u64 {
        bytes.len() as u64
    }

    /// Says something on stdout and on stderr.
    pub fn print(out: &str, err: &str) {
        print!("{out}");
        eprint!("{err}");
    }
}
