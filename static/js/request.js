// The request that the Generate form would send now, and the same as code.

const whole = (text) => (/^\d+$/.test(text) ? Number(text) : text);

export function requestOf(form) {
  const data = new FormData(form);
  const size = data.get("size");
  const [width, height] = size === "own" ? [data.get("width"), data.get("height")] : size.split("x");
  const request = { prompt: data.get("prompt"), width: whole(width), height: whole(height), count: whole(data.get("count")) };
  const seed = data.get("seed").replace(/\s/g, "");
  if (seed) request.seed = whole(seed);
  request.steps = whole(data.get("steps"));
  request.engine = data.get("engine");
  request.loras = data.getAll("lora").map((slug) => ({ slug, weight: data.get(`weight-${slug}`) }));
  request.loras.forEach((lora) => (lora.weight = lora.weight === "" ? "" : Number(lora.weight)));
  return request;
}

export function asCurl(url, request) {
  const json = JSON.stringify(request, null, 1).replace(/\n\s*/g, " ");
  return [
    `curl ${url} \\`,
    '  -H "Authorization: Bearer $FLUXSITE_TOKEN" \\',
    '  -H "Content-Type: application/json" \\',
    `  -d '${json.replaceAll("'", "'\\''")}'`,
  ].join("\n");
}

export function asPython(url, request) {
  return [
    "import os, requests",
    "",
    "job = requests.post(",
    `    ${JSON.stringify(url)},`,
    '    headers={"Authorization": f"Bearer {os.environ[\'FLUXSITE_TOKEN\']}"},',
    `    json=${JSON.stringify(request, null, 1).replace(/\n\s*/g, " ")},`,
    ").json()",
    'print(job["urls"]["self"])',
  ].join("\n");
}
