//! `running`: finished runs. Each runner has a pace of their own; long runs are rare.

use super::Stage;
use super::text::{number, uuid};

/// How many of a hundred runs lie in which range of metres.
const DISTANCES: [(u64, (u64, u64)); 4] = [
    (58, (3_000, 8_000)),
    (25, (8_000, 15_000)),
    (12, (800, 3_000)),
    (5, (15_000, 42_195)),
];

pub(super) fn write(stage: &mut Stage, out: &mut Vec<u8>) {
    let user = stage.user();
    let (least, most) = stage.draws.share_of(&DISTANCES);
    let distance = stage.draws.between(least, most);
    // Seconds for a kilometre: 4 to 7 minutes by runner, a tenth more or less by day.
    let pace = 240 + stage.trait_of(user) % 180;
    let duration = distance * pace * stage.draws.about(90, 110) / 100_000;
    out.extend_from_slice(b"{\"user_id\":\"");
    uuid(out, stage.uuid_of(user));
    out.extend_from_slice(b"\",\"duration\":");
    number(out, duration);
    out.extend_from_slice(b",\"distance\":");
    number(out, distance);
    out.extend_from_slice(b",\"timestamp\":\"");
    out.extend_from_slice(stage.clock.text());
    out.extend_from_slice(b"\"}");
}
