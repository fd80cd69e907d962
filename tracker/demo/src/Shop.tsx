/**
 * A shop that sells nothing: things to hover over and to click on, each of them tracked by the hook.
 */

import { useState, type MouseEvent, type ReactElement } from "react";

import { useTracker, useUserTracker } from "../../src/index.js";
import type { DemoSettings } from "./settings.js";

/** Something on a shelf. */
export interface Product {
  readonly name: string;
  readonly price: number;
  readonly about: string;
  /** A drawing of 48 × 48. */
  readonly drawing: string;
}

export const PRODUCTS: readonly Product[] = [
  {
    name: "Water wheel",
    price: 249,
    about: "Oak, overshot, turns both ways.",
    drawing: "M24 6v36M6 24h36M11 11l26 26M37 11L11 37M24 10a14 14 0 1 0 0 28 14 14 0 1 0 0-28M24 20a4 4 0 1 0 0 8 4 4 0 1 0 0-8",
  },
  {
    name: "Tide table",
    price: 12,
    about: "Highs and lows for a whole year.",
    drawing: "M8 8h32v32H8zM8 17h32M15 5v7M33 5v7M13 27c4-4 7-4 11 0s7 4 11 0M13 34c4-4 7-4 11 0s7 4 11 0",
  },
  {
    name: "Millstone",
    price: 480,
    about: "French burr, dressed by hand.",
    drawing: "M6 20a18 9 0 1 0 36 0 18 9 0 1 0-36 0M6 20v9a18 9 0 0 0 36 0v-9M24 17a5 3 0 1 0 0 6 5 3 0 1 0 0-6M12 15l7 4M36 15l-7 4M24 25v4",
  },
  {
    name: "Sluice gate",
    price: 95,
    about: "Lets in exactly what you want.",
    drawing: "M10 42V6h28v36M10 14h28M24 6v18M16 24h16v10H16zM4 40c3-3 6-3 9 0M35 40c3-3 6-3 9 0M18 40c4-3 8-3 12 0",
  },
  {
    name: "Flour, 5 kg",
    price: 9,
    about: "Stone ground at the last high tide.",
    drawing: "M14 12h20l4 28a3 3 0 0 1-3 3H13a3 3 0 0 1-3-3zM14 12l3-6h14l3 6M24 22v14M24 26c-4 0-6-2-6-5 4 0 6 2 6 5zM24 26c4 0 6-2 6-5-4 0-6 2-6 5zM24 33c-4 0-6-2-6-5 4 0 6 2 6 5zM24 33c4 0 6-2 6-5-4 0-6 2-6 5z",
  },
  {
    name: "Lantern",
    price: 38,
    about: "For those who grind at night.",
    drawing: "M16 18h16v20H16zM13 42h22M19 18l2-7h6l2 7M24 11V7M20 7h8M24 34c-3 0-4-2-4-4 0-3 4-4 4-8 0 4 4 5 4 8 0 2-1 4-4 4z",
  },
];

/** One product. Its card is hovered over, its button is clicked. */
function Card(props: { readonly product: Product; readonly taken: boolean; readonly add: () => void }): ReactElement {
  const { name, price, about, drawing } = props.product;
  const card = useUserTracker("ProductCard", { product: name });
  const button = useUserTracker("AddToBasket", { product: name, price });
  return (
    <article className="card" onMouseEnter={card.onMouseEnter} onMouseLeave={card.onMouseLeave}>
      <svg viewBox="0 0 48 48" aria-hidden="true">
        <path d={drawing} />
      </svg>
      <h3>{name}</h3>
      <p>{about}</p>
      <div>
        <span className="price">{price} €</span>
        <button
          type="button"
          className={props.taken ? "taken" : ""}
          onClick={(event: MouseEvent<HTMLButtonElement>) => {
            button.onClick(event);
            props.add();
          }}
        >
          {props.taken ? "In the basket" : "Add"}
        </button>
      </div>
    </article>
  );
}

/** The shelves. */
export function Shop(props: { readonly basket: readonly string[]; readonly add: (name: string) => void }): ReactElement {
  const tracker = useTracker();
  const burst = (): void => {
    for (let number = 1; number <= 100; number += 1) {
      tracker.track("BURST", { component: "BurstButton", metadata: { number } });
    }
  };
  return (
    <>
      <div className="lead">
        <div>
          <h1>Everything for the mill</h1>
          <p>Nothing here is for sale. Move and click, and watch what the server learns.</p>
        </div>
        <button type="button" className="quiet" onClick={burst}>
          100 events at once
        </button>
      </div>
      <div className="shelf">
        {PRODUCTS.map((product) => (
          <Card
            key={product.name}
            product={product}
            taken={props.basket.includes(product.name)}
            add={() => props.add(product.name)}
          />
        ))}
      </div>
    </>
  );
}

/** What was put into the basket. */
export function Basket(props: {
  readonly products: readonly Product[];
  readonly empty: () => void;
  readonly go: () => void;
}): ReactElement {
  const tracker = useTracker();
  const [ordered, setOrdered] = useState(false);
  const total = props.products.reduce((sum, { price }) => sum + price, 0);
  if (props.products.length === 0) {
    return (
      <div className="lead column">
        <h1>{ordered ? "Thank you" : "The basket is empty"}</h1>
        <p>{ordered ? "Nothing will be sent to you, but the event was." : "Put something in, and the server will know."}</p>
        <button type="button" onClick={props.go}>
          To the shelves
        </button>
      </div>
    );
  }
  const order = (event: MouseEvent<HTMLButtonElement>): void => {
    const items = props.products.map(({ name }) => name);
    tracker.track("ORDER", { component: "OrderButton", element: event.currentTarget, metadata: { items, total } });
    setOrdered(true);
    props.empty();
  };
  return (
    <>
      <div className="lead">
        <h1>Your basket</h1>
      </div>
      <ul className="basket">
        {props.products.map(({ name, price }) => (
          <li key={name}>
            <span>{name}</span>
            <span className="price">{price} €</span>
          </li>
        ))}
        <li className="total">
          <span>Together</span>
          <span className="price">{total} €</span>
        </li>
      </ul>
      <button type="button" onClick={order}>
        Order
      </button>
    </>
  );
}

/** What this page is. */
export function About({ settings }: { readonly settings: DemoSettings }): ReactElement {
  return (
    <div className="prose">
      <h1>What happens here</h1>
      <p>
        Each click, hover and page view becomes an event with an id of its own. The tracker <code>react-user-tracker</code>{" "}
        keeps it in this browser, gathers up to five or waits a second, and posts the batch to <code>{settings.track}</code>.
        Tidemill makes it durable before it answers; only then does the browser forget it.
      </p>
      <p>
        The list comes back from <code>{settings.tail}</code> as Server-Sent Events, or from <code>{settings.events}</code>{" "}
        where there are none.
      </p>
      <p>
        Stop the server and go on clicking: the events wait, also if you close the page, and arrive when it is back. An
        event that is sent twice, because an answer was lost, has the same id and is stored once.
      </p>
    </div>
  );
}
