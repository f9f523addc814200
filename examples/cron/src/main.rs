//! A job that is started by a cron: writes the message that it was given, and ends.

fn main() {
    match std::env::var("MESSAGE") {
        Ok(message) => println!("{message}"),
        Err(error) => {
            eprintln!("cron: no MESSAGE: {error}");
            std::process::exit(1);
        }
    }
}
