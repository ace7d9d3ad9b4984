// Pictures of items. An item without one gets a dial: the colour is its first code, each ring shows where a further code lies in its codebook,
// so that items with similar Semantic IDs look alike.
const SVG = "http://www.w3.org/2000/svg";

function shape(name, attributes) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}

function arc(radius, share) {
  const angle = 2 * Math.PI * Math.min(Math.max(share, 0.04), 0.999);
  const [x, y] = [32 + radius * Math.sin(angle), 32 - radius * Math.cos(angle)];
  return `M32 ${32 - radius}A${radius} ${radius} 0 ${angle > Math.PI ? 1 : 0} 1 ${x.toFixed(2)} ${y.toFixed(2)}`;
}

export function dial(sid, sizes) {
  const hue = Math.round((360 * sid[0]) / sizes[0]);
  const svg = shape("svg", { viewBox: "0 0 64 64", class: "tile", "aria-hidden": "true" });
  svg.style.setProperty("background", `hsl(${hue} 60% var(--tile-soft))`);
  const rings = sid.slice(1);
  const gap = Math.min(9, 20 / Math.max(rings.length, 1));
  rings.forEach((code, place) => {
    const radius = 25 - place * gap;
    const width = gap * 0.55;
    svg.append(shape("circle", { cx: 32, cy: 32, r: radius, fill: "none", "stroke-width": width, stroke: `hsl(${hue} 45% 50% / 0.18)` }));
    const drawn = shape("path", { d: arc(radius, (code + 1) / sizes[place + 1]), fill: "none", "stroke-width": width, "stroke-linecap": "round" });
    drawn.style.setProperty("stroke", `hsl(${(hue + 28 * place) % 360} 62% var(--tile-light))`);
    svg.append(drawn);
  });
  const middle = shape("circle", { cx: 32, cy: 32, r: Math.max(25 - rings.length * gap, 3) });
  middle.style.setProperty("fill", `hsl(${hue} 62% var(--tile-light))`);
  svg.append(middle);
  return svg;
}

export function tile(item, sizes) {
  if (!item.image) return dial(item.sid, sizes);
  const image = document.createElement("img");
  image.className = "tile";
  image.src = item.image;
  image.alt = "";
  image.loading = "lazy";
  image.referrerPolicy = "no-referrer";
  image.onerror = () => image.replaceWith(dial(item.sid, sizes));
  return image;
}
