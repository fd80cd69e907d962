//! The README's tour: every command works and prints what the page shows.

mod harness;
#[path = "harness/tour.rs"]
mod tour;

const README: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md");

#[test]
fn every_command_of_the_tour_prints_what_the_page_shows() {
    tour::walk(&std::fs::read_to_string(README).expect("the page is there"), 8080);
}
