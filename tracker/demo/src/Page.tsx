/**
 * The page: the shop on the left, what the server knows about it on the right.
 */

import { useEffect, useState, type MouseEvent, type ReactElement, type ReactNode } from "react";

import { usePageView, useTracker, useUserTracker } from "../../src/index.js";
import { Feed } from "./Feed.js";
import type { DemoSettings } from "./settings.js";
import { About, Basket, PRODUCTS, Shop } from "./Shop.js";
import { useArrivals } from "./useArrivals.js";

const BASE = import.meta.env.BASE_URL;
const PLACES = [
  { path: BASE, name: "Shop" },
  { path: `${BASE}basket`, name: "Basket" },
  { path: `${BASE}about`, name: "About" },
] as const;

/** Where the visitor is, with the buttons of the browser too. */
function usePlace(): readonly [path: string, go: (path: string) => void] {
  const known = (path: string): string => PLACES.find((place) => place.path === path)?.path ?? BASE;
  const [path, setPath] = useState(() => known(window.location.pathname));
  useEffect(() => {
    const moved = (): void => setPath(known(window.location.pathname));
    window.addEventListener("popstate", moved);
    return () => window.removeEventListener("popstate", moved);
  }, []);
  const go = (to: string): void => {
    window.history.pushState(null, "", to);
    setPath(to);
  };
  return [path, go];
}

/** A link to a part of the shop. */
function Link(props: {
  readonly to: string;
  readonly here: boolean;
  readonly go: (path: string) => void;
  readonly children: ReactNode;
}): ReactElement {
  const link = useUserTracker("NavLink", { to: props.to });
  const follow = (event: MouseEvent<HTMLAnchorElement>): void => {
    link.onClick(event);
    if (!event.metaKey && !event.ctrlKey && !event.shiftKey) {
      event.preventDefault();
      props.go(props.to);
    }
  };
  return (
    <a href={props.to} aria-current={props.here ? "page" : undefined} {...link} onClick={follow}>
      {props.children}
    </a>
  );
}

/** Links to all of them. */
function Navigation(props: {
  readonly path: string;
  readonly items: number;
  readonly go: (path: string) => void;
}): ReactElement {
  return (
    <nav>
      {PLACES.map(({ path, name }) => (
        <Link key={path} to={path} here={path === props.path} go={props.go}>
          {name}
          {name === "Basket" && props.items > 0 && <span className="badge">{props.items}</span>}
        </Link>
      ))}
    </nav>
  );
}

/** How many events wait in this browser. */
function useWaiting(): number {
  const tracker = useTracker();
  const [waiting, setWaiting] = useState(tracker.waiting);
  useEffect(() => {
    const timer = setInterval(() => setWaiting(tracker.waiting), 100);
    return () => clearInterval(timer);
  }, [tracker]);
  return waiting;
}

/** Everything. */
export function Page({ settings, visitor }: { readonly settings: DemoSettings; readonly visitor: string }): ReactElement {
  const [path, go] = usePlace();
  const [basket, setBasket] = useState<readonly string[]>([]);
  const arrivals = useArrivals(settings, visitor);
  const waiting = useWaiting();
  useEffect(() => {
    const name = PLACES.find((place) => place.path === path)?.name ?? "";
    document.title = name === "Shop" ? "The Mill Shop" : `${name} · The Mill Shop`;
  }, [path]);
  usePageView(path);
  const inBasket = PRODUCTS.filter(({ name }) => basket.includes(name));
  return (
    <div className="page">
      <div className="shop">
        <header>
          <svg viewBox="0 0 32 32" aria-hidden="true">
            <rect width="32" height="32" rx="8" />
            <path d="M4 13c4-4 8-4 12 0s8 4 12 0M4 21c4-4 8-4 12 0s8 4 12 0" />
          </svg>
          <strong>The Mill Shop</strong>
          <Navigation path={path} items={basket.length} go={go} />
        </header>
        <main>
          {path === PLACES[1].path ? (
            <Basket products={inBasket} empty={() => setBasket([])} go={() => go(BASE)} />
          ) : path === PLACES[2].path ? (
            <About settings={settings} />
          ) : (
            <Shop add={(name) => setBasket((before) => [...new Set([...before, name])])} basket={basket} />
          )}
        </main>
      </div>
      <Feed arrivals={arrivals} waiting={waiting} visitor={visitor} stream={settings.stream} />
    </div>
  );
}
