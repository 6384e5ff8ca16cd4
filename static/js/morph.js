// Makes a tree like another and keeps every element that need not change: focus stays, pictures stay.

export function morph(old, wanted) {
  if (old.isEqualNode(wanted)) return;
  if (old.nodeName !== wanted.nodeName || old.nodeType !== Node.ELEMENT_NODE) {
    old.replaceWith(wanted.cloneNode(true));
    return;
  }
  matchAttributes(old, wanted);
  const olds = [...old.childNodes];
  [...wanted.childNodes].forEach((child, i) => (olds[i] ? morph(olds[i], child) : old.append(child.cloneNode(true))));
  olds.slice(wanted.childNodes.length).forEach((child) => child.remove());
}

function matchAttributes(old, wanted) {
  for (const { name } of [...old.attributes]) {
    if (!wanted.hasAttribute(name)) old.removeAttribute(name);
  }
  for (const { name, value } of wanted.attributes) {
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
}
