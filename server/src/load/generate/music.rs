//! `music`: songs that were listened to. A song has one artist and one length; few songs are heard very often.

use super::Stage;
use super::text::{mixed, number, uuid};

/// First words of titles, as JSON text. Some need an escape or more than one byte a letter, as real ones do.
const FIRST: [&str; 24] = [
    "Golden",
    "Silent",
    "Run Boy",
    "Electric",
    "Paper",
    "Midnight",
    "Northern",
    "Über",
    "Broken",
    "Velvet",
    "Hollow",
    "Crystal",
    "Été",
    "Wild",
    "Neon",
    "Distant",
    "Crimson",
    "Slow",
    "The \\\"Last\\\"",
    "Borrowed",
    "Winter",
    "Salt",
    "Kalte",
    "Echo",
];
/// Second words of titles.
const SECOND: [&str; 24] = [
    "Run",
    "River",
    "Lights",
    "Machine",
    "Hearts",
    "Train",
    "Horizon",
    "Summer",
    "Streets",
    "Mirrors",
    "Garden",
    "Signals",
    "Ocean",
    "Nächte",
    "Parade",
    "Thunder",
    "Lullaby",
    "Mountain",
    "夜",
    "Avenue",
    "Feathers",
    "Satellite",
    "Rain",
    "Dust",
];
/// Artists.
const ARTISTS: [&str; 32] = [
    "Woodkid",
    "The Lanterns",
    "Ada Quill",
    "Nordlys",
    "Casa Azul",
    "Mira & The Tide",
    "Jón Vetur",
    "Paper Planes Co.",
    "DJ Halyard",
    "Lowland",
    "Sofia Brandt",
    "Octave Nine",
    "The Understudies",
    "Kaito",
    "Marée Haute",
    "Old Harbour",
    "Violet Crane",
    "Stereo Fields",
    "Bruno Falk",
    "Glass Orchard",
    "Señor Lobo",
    "Tin Roof",
    "Anya Volkova",
    "Slow Ferry",
    "Quartz",
    "Red Umbrella",
    "Amara",
    "The Night Shift",
    "Polder",
    "Juniper Lane",
    "Echo/Delta",
    "Ilse",
];
const SONGS: u64 = (FIRST.len() * SECOND.len()) as u64;

pub(super) fn write(stage: &mut Stage, out: &mut Vec<u8>) {
    let user = stage.user();
    // The smallest of three draws: the first songs of the list are the favourites.
    let song = (0..3).map(|_| stage.draws.below(SONGS)).min().unwrap_or(0);
    // Not of the seed: a song is the same in every data set.
    let traits = mixed(0, song, 7);
    out.extend_from_slice(b"{\"user_id\":\"");
    uuid(out, stage.uuid_of(user));
    out.extend_from_slice(b"\",\"song_name\":\"");
    let words = SECOND.len() as u64;
    out.extend_from_slice(FIRST[(song / words) as usize].as_bytes());
    out.push(b' ');
    out.extend_from_slice(SECOND[(song % words) as usize].as_bytes());
    out.extend_from_slice(b"\",\"artist\":\"");
    out.extend_from_slice(ARTISTS[(traits % ARTISTS.len() as u64) as usize].as_bytes());
    out.extend_from_slice(b"\",\"song_duration\":");
    number(out, 120 + (traits >> 32) % 240);
    out.extend_from_slice(b",\"timestamp\":\"");
    out.extend_from_slice(stage.clock.text());
    out.extend_from_slice(b"\"}");
}
