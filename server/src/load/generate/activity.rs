//! `activity`: what users did on a site, with an object of details whose members differ from event to event.

use super::Stage;
use super::text::number;

const TYPES: [(u64, &str); 6] = [
    (55, "page_view"),
    (20, "click"),
    (12, "scroll"),
    (7, "search"),
    (4, "login"),
    (2, "purchase"),
];
const SECTIONS: [&str; 8] = [
    "products", "articles", "help", "account", "offers", "brands", "stores", "reviews",
];
const REFERRERS: [&str; 6] = [
    "https://search.example/?q=running+shoes",
    "https://news.example/front",
    "https://social.example/feed",
    "https://mail.example/",
    "https://shop.example/",
    "https://blog.example/2024/best-of",
];
const BROWSERS: [(u64, &str); 4] = [(48, "Chrome"), (24, "Safari"), (18, "Firefox"), (10, "Edge")];
const TERMS: [&str; 8] = [
    "shoes",
    "rain jacket",
    "20\\\" wheel",
    "müsli",
    "lamp",
    "socks & more",
    "tent",
    "usb-c cable",
];

pub(super) fn write(stage: &mut Stage, out: &mut Vec<u8>) {
    let user = stage.user();
    let draws = &mut stage.draws;
    let activity = draws.share_of(&TYPES);
    out.extend_from_slice(b"{\"user_id\":\"user_");
    number(out, user);
    out.extend_from_slice(b"\",\"activity_type\":\"");
    out.extend_from_slice(activity.as_bytes());
    out.extend_from_slice(b"\",\"timestamp\":\"");
    out.extend_from_slice(stage.clock.text());
    out.push(b'"');
    // One in twenty clients sends no details at all.
    if !draws.happens(5) {
        out.extend_from_slice(b",\"metadata\":{\"page_url\":\"https://shop.example/");
        out.extend_from_slice(draws.one_of(&SECTIONS).as_bytes());
        out.push(b'/');
        let page = draws.between(1, 2_000);
        number(out, draws.between(1, page));
        out.push(b'"');
        if draws.happens(60) {
            out.extend_from_slice(b",\"referrer\":\"");
            out.extend_from_slice(draws.one_of(&REFERRERS).as_bytes());
            out.push(b'"');
        }
        out.extend_from_slice(b",\"browser\":\"");
        out.extend_from_slice(draws.share_of(&BROWSERS).as_bytes());
        out.push(b'"');
        match activity {
            "search" => {
                out.extend_from_slice(b",\"query\":\"");
                out.extend_from_slice(draws.one_of(&TERMS).as_bytes());
                out.push(b'"');
            }
            "scroll" => {
                out.extend_from_slice(b",\"depth_percent\":");
                number(out, draws.between(5, 100));
            }
            "purchase" => {
                out.extend_from_slice(b",\"items\":[");
                for item in 0..draws.between(1, 4) {
                    if item > 0 {
                        out.push(b',');
                    }
                    out.extend_from_slice(b"{\"sku\":");
                    number(out, draws.between(10_000, 99_999));
                    out.extend_from_slice(b",\"count\":");
                    number(out, draws.between(1, 3));
                    out.push(b'}');
                }
                out.push(b']');
            }
            _ => {}
        }
        out.push(b'}');
    }
    out.push(b'}');
}
