//! A job: counts the primes below LIMIT, writes how many there are, and ends. A LIMIT that is no number is exit code 2.

use std::process::ExitCode;

fn main() -> ExitCode {
    let limit = std::env::var("LIMIT").unwrap_or_default();
    match limit.parse() {
        Ok(limit) => {
            println!("there are {} primes below {limit}", primes_below(limit));
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("LIMIT={limit}: {error}");
            ExitCode::from(2)
        }
    }
}

/// The sieve of Eratosthenes.
fn primes_below(limit: u32) -> usize {
    let limit = limit as usize;
    let mut prime = vec![true; limit];
    prime.iter_mut().take(2).for_each(|small| *small = false);
    for n in (2..).take_while(|n| n * n < limit) {
        if prime[n] {
            (n * n..limit).step_by(n).for_each(|multiple| prime[multiple] = false);
        }
    }
    prime.into_iter().filter(|prime| *prime).count()
}
