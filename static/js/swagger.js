// The API's schema, to try it out: with a token, or as whoever is logged in here.
const place = document.getElementById("swagger");

function withCsrf(request) {
  const token = document.cookie.match(/csrftoken=([^;]+)/);
  if (token && new URL(request.url, location.href).origin === location.origin) {
    request.headers["X-CSRFToken"] = token[1];
  }
  return request;
}

window.SwaggerUIBundle({
  url: place.dataset.schema, domNode: place, deepLinking: true, requestInterceptor: withCsrf,
});
