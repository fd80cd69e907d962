//! `detection`: what cameras saw. A device stays in its region and place; severe events are rare.

use super::Stage;
use super::text::{four_digits, hexadecimal, mixed, number};

const REGIONS: [&str; 4] = ["NA", "EU", "APAC", "LATAM"];
const RULES: [(u64, &str); 4] = [
    (55, "motion_detection"),
    (25, "object_detection"),
    (15, "face_detection"),
    (5, "intrusion_detection"),
];
const LOCATIONS: [&str; 5] = ["entrance", "parking_lot", "lobby", "warehouse", "office"];
const SEVERITIES: [(u64, u64); 5] = [(40, 1), (28, 2), (18, 3), (10, 4), (4, 5)];

pub(super) fn write(stage: &mut Stage, out: &mut Vec<u8>) {
    // Users of this stream are devices.
    let device = stage.user();
    let traits = stage.trait_of(device);
    let rule = stage.draws.share_of(&RULES);
    let severity = stage.draws.share_of(&SEVERITIES);
    out.extend_from_slice(b"{\"event_id\":\"evt_");
    hexadecimal(out, mixed(stage.seed, stage.number, 11));
    out.extend_from_slice(b"\",\"region\":\"");
    out.extend_from_slice(REGIONS[(traits % 4) as usize].as_bytes());
    out.extend_from_slice(b"\",\"rule_type\":\"");
    out.extend_from_slice(rule.as_bytes());
    out.extend_from_slice(b"\",\"location\":\"");
    out.extend_from_slice(LOCATIONS[(traits / 4 % 5) as usize].as_bytes());
    out.extend_from_slice(b"\",\"severity\":");
    number(out, severity);
    out.extend_from_slice(b",\"device_id\":\"device_");
    number(out, device);
    out.extend_from_slice(b"\",\"camera_id\":\"cam_");
    four_digits(out, traits / 20 % 10_000);
    // The number of the event makes it unique.
    out.extend_from_slice(b"\",\"frame_ref\":\"frame_");
    number(out, stage.number);
    out.push(b'_');
    four_digits(out, stage.draws.below(10_000));
    out.extend_from_slice(b"\",\"created_at\":\"");
    out.extend_from_slice(stage.clock.text());
    out.extend_from_slice(b"\"}");
}
