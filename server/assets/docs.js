// Shows the API of this server: reads its OpenAPI document, asks for a token where the server wants one, and hands
// the document to Swagger UI or ReDoc, whichever the page has. The token stays in this page's memory.
"use strict";
(async () => {
  const place = document.getElementById("api");
  const form = document.getElementById("token");
  let token = "";

  const read = async () => {
    const headers = token ? { Authorization: `Bearer ${token}` } : {};
    const answer = await fetch("/openapi.json", { headers });
    if (answer.status === 401 || answer.status === 403) return null;
    if (!answer.ok) throw new Error(`/openapi.json answers ${answer.status}`);
    return answer.json();
  };

  const show = (spec) => {
    form.hidden = true;
    if (window.SwaggerUIBundle) {
      window.SwaggerUIBundle({
        spec,
        domNode: place,
        deepLinking: true,
        requestInterceptor: (request) => {
          if (token && !request.headers.Authorization) request.headers.Authorization = `Bearer ${token}`;
          return request;
        },
      });
    } else {
      window.Redoc.init(spec, { hideDownloadButton: false }, place);
    }
  };

  const begin = async () => {
    try {
      const spec = await read();
      if (spec) show(spec);
      else form.hidden = false;
    } catch (error) {
      place.textContent = String(error);
    }
  };

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    token = form.elements.namedItem("text").value.trim();
    begin();
  });
  await begin();
})();
