// @vitest-environment jsdom
import { act, StrictMode, type ReactElement, type ReactNode } from "react";
import { createRoot, type Root } from "react-dom/client";
import { afterEach, beforeEach, describe, expect, it } from "vitest";

import { TrackerProvider, usePageView, useTracker, useUserTracker } from "../src/index.js";
import type { TrackedHandlers, UserTracker } from "../src/index.js";
import { ok, Tab, tracker } from "./world.js";

Object.assign(globalThis, { IS_REACT_ACT_ENVIRONMENT: true });

let root: Root;
let place: HTMLElement;
let tab: Tab;
let tracked: UserTracker;
beforeEach(() => {
  place = document.body.appendChild(document.createElement("div"));
  root = createRoot(place);
  tab = new Tab(ok);
  tracked = tracker(tab).tracked;
});
afterEach(() => {
  act(() => root.unmount());
  place.remove();
  tracked.stop();
});

const show = (page: ReactNode): void =>
  act(() => root.render(<StrictMode><TrackerProvider tracker={tracked}>{page}</TrackerProvider></StrictMode>));

/** What was tracked since, without what differs from run to run. */
async function events(): Promise<object[]> {
  await tracked.flush();
  const all = tab.posted.flatMap((batch) => batch.events);
  return all.map(({ event_type, location_type, component_name, dom_info, user_metadata }) => ({
    event_type,
    location_type,
    component_name,
    dom_info,
    user_metadata,
  }));
}

function Buy({ item }: { readonly item: number }): ReactElement {
  const handlers = useUserTracker("Buy", { item });
  return (
    <button id="buy" className=" big  blue " {...handlers}>
      Buy <b>now</b>
      <textarea defaultValue="a secret" />
    </button>
  );
}

describe("the hook", () => {
  it("tracks clicks and hovers of a component, with the element and the newest metadata", async () => {
    show(<Buy item={1} />);
    show(<Buy item={2} />);
    const button = place.querySelector("button");
    const over = (type: string, from: Element | null): boolean | undefined =>
      button?.dispatchEvent(new MouseEvent(type, { bubbles: true, relatedTarget: from }));
    act(() => {
      over("mouseover", document.body);
      button?.querySelector("b")?.click();
      over("mouseout", document.body);
    });
    const same = {
      location_type: "COMPONENT",
      component_name: "Buy",
      dom_info: { tag: "button", id: "buy", className: "big  blue", text: "Buy now" },
      user_metadata: { item: 2 },
    };
    expect(await events()).toEqual([
      { event_type: "HOVER_ENTER", ...same },
      { event_type: "CLICK", ...same },
      { event_type: "HOVER_LEAVE", ...same },
    ]);
  });

  it("gives the same handlers at each render", () => {
    const seen = new Set<TrackedHandlers>();
    function Card(): null {
      seen.add(useUserTracker("Card"));
      return null;
    }
    show(<Card />);
    const before = [...seen].at(-1);
    show(<Card />);
    expect([...seen].at(-1)).toBe(before);
  });

  it("takes what a component calls it with, or nothing", async () => {
    function Menu({ onPick }: { readonly onPick: (picked?: { readonly currentTarget: string }) => void }): null {
      onPick();
      onPick({ currentTarget: "no element" });
      return null;
    }
    function Page(): ReactElement {
      return <Menu onPick={useUserTracker("Menu").onClick} />;
    }
    act(() => root.render(<TrackerProvider tracker={tracked}><Page /></TrackerProvider>));
    const menu = { event_type: "CLICK", location_type: "COMPONENT", component_name: "Menu", user_metadata: {} };
    expect(await events()).toEqual([menu, menu]);
  });

  it("says what is missing when there is no provider", () => {
    function Lonely(): null {
      useTracker();
      return null;
    }
    expect(() => act(() => root.render(<Lonely />))).toThrow("<TrackerProvider>");
  });
});

describe("a page view", () => {
  function Page({ path }: { readonly path: string }): null {
    usePageView(path, { path });
    return null;
  }

  it("is tracked once for each path, under StrictMode too", async () => {
    show(<Page path="/a" />);
    show(<Page path="/a" />);
    show(<Page path="/b" />);
    const view = { event_type: "PAGE_VIEW", location_type: "PAGE" };
    expect(await events()).toEqual([
      { ...view, user_metadata: { path: "/a" } },
      { ...view, user_metadata: { path: "/b" } },
    ]);
  });
});

describe("the provider", () => {
  it("makes a tracker of settings, on the page that it is on", async () => {
    const sent: string[] = [];
    window.fetch = async (_url, init) => {
      sent.push(String(init?.body));
      return ok();
    };
    document.title = "A page";
    const settings = { endpointUrl: "/track", appName: "shop", appVersion: "1", batchSize: 1 };
    await act(async () => {
      root.render(
        <StrictMode>
          <TrackerProvider settings={settings}>
            <Buy item={3} />
          </TrackerProvider>
        </StrictMode>,
      );
    });
    await act(async () => place.querySelector("button")?.click());
    expect(sent).toHaveLength(1);
    expect(JSON.parse(sent[0] ?? "")).toMatchObject({
      events: [{ page_path: "/", page_title: "A page", event_type: "CLICK", user_metadata: { item: 3 } }],
    });
  });
});
