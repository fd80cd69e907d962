//! `tracking`: events of a browser tracker, with nested objects and optional members.

use super::Stage;
use super::text::{as_version_4, number, uuid};

const TYPES: [(u64, &str); 4] = [
    (40, "HOVER_ENTER"),
    (25, "HOVER_LEAVE"),
    (20, "CLICK"),
    (15, "PAGE_VIEW"),
];
/// Path and title of a page, as JSON text.
const PAGES: [(&str, &str); 6] = [
    ("/", "Home"),
    ("/products", "All products"),
    ("/cart", "Your cart"),
    ("/checkout", "Checkout – step 1"),
    ("/about", "About \\\"us\\\""),
    ("/hilfe", "Häufige Fragen"),
];
/// Name, tag, class and text of a component.
const COMPONENTS: [(&str, &str, &str, &str); 6] = [
    ("AddToCartButton", "button", "btn btn-primary", "Add to cart"),
    ("SearchBox", "input", "search", ""),
    ("ProductCard", "div", "card card-hover", "Trail shoe, 42"),
    ("NavLink", "a", "nav-link", "Offers"),
    ("CookieBanner", "section", "banner", "We use cookies"),
    ("LanguagePicker", "select", "picker", "Deutsch"),
];
const LANGUAGES: [&str; 4] = ["en", "de", "fr", "ja"];

pub(super) fn write(stage: &mut Stage, out: &mut Vec<u8>) {
    let user = stage.user();
    let draws = &mut stage.draws;
    let event_id = as_version_4(u128::from(draws.bits()) << 64 | u128::from(draws.bits()));
    let kind = draws.share_of(&TYPES);
    let (path, title) = *draws.one_of(&PAGES);
    out.extend_from_slice(b"{\"timestamp\":");
    number(out, stage.clock.ms());
    out.extend_from_slice(b",\"event_id\":\"");
    uuid(out, event_id);
    out.extend_from_slice(b"\",\"event_type\":\"");
    out.extend_from_slice(kind.as_bytes());
    if kind == "PAGE_VIEW" {
        out.extend_from_slice(b"\",\"location_type\":\"PAGE\",");
        page(out, path, title);
    } else {
        let (name, tag, class, text) = *draws.one_of(&COMPONENTS);
        out.extend_from_slice(b"\",\"location_type\":\"COMPONENT\",\"component_name\":\"");
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b"\",");
        page(out, path, title);
        out.extend_from_slice(b",\"dom_info\":{\"tag\":\"");
        out.extend_from_slice(tag.as_bytes());
        out.push(b'"');
        if draws.happens(50) {
            out.extend_from_slice(b",\"id\":\"el-");
            number(out, draws.between(1, 300));
            out.push(b'"');
        }
        out.extend_from_slice(b",\"className\":\"");
        out.extend_from_slice(class.as_bytes());
        out.push(b'"');
        if !text.is_empty() {
            out.extend_from_slice(b",\"text\":\"");
            out.extend_from_slice(text.as_bytes());
            out.push(b'"');
        }
        out.push(b'}');
    }
    out.extend_from_slice(b",\"user_metadata\":{\"userId\":\"u");
    number(out, user);
    out.extend_from_slice(b"\",\"language\":\"");
    out.extend_from_slice(draws.one_of(&LANGUAGES).as_bytes());
    out.extend_from_slice(b"\",\"screen\":{\"width\":");
    let (width, height) = *draws.one_of(&[(1_920, 1_080), (1_366, 768), (390, 844), (2_560, 1_440)]);
    number(out, width);
    out.extend_from_slice(b",\"height\":");
    number(out, height);
    out.extend_from_slice(b"}}}");
}

fn page(out: &mut Vec<u8>, path: &str, title: &str) {
    out.extend_from_slice(b"\"page_path\":\"");
    out.extend_from_slice(path.as_bytes());
    out.extend_from_slice(b"\",\"page_title\":\"");
    out.extend_from_slice(title.as_bytes());
    out.push(b'"');
}
