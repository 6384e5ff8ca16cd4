// The API's schema, to read. Its search would need a worker made of a string, which the policy forbids.
const place = document.getElementById("redoc");

window.Redoc.init(place.dataset.schema, { disableSearch: true, nativeScrollbars: true }, place);
