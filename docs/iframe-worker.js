/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A browser starts no Worker for a page that it reads from the disk (file:), and the theme's search
 * runs in one. Here a hidden frame runs the worker's script instead. The theme looks for the name
 * IFrameWorker.
 */
if (location.protocol === "file:") {
	class IFrameWorker extends EventTarget {
		constructor(url) {
			super();
			this.frame = document.createElement("iframe");
			this.frame.hidden = true;
			document.body.append(this.frame);
			const inside = this.frame.contentWindow;
			const load = (source) =>
				new Promise((done, failed) => {
					const script = inside.document.createElement("script");
					script.src = source;
					script.onload = done;
					script.onerror = failed;
					inside.document.body.append(script);
				});
			inside.postMessage = (data) => this.dispatchEvent(new MessageEvent("message", { data }));
			inside.importScripts = (...sources) =>
				sources.reduce((before, source) => before.then(() => load(source)), Promise.resolve());
			this.ready = load(url);
		}

		postMessage(data) {
			this.ready.then(() => this.frame.contentWindow.dispatchEvent(new MessageEvent("message", { data })));
		}

		terminate() {
			this.frame.remove();
		}
	}
	window.IFrameWorker = window.Worker = IFrameWorker;
}
