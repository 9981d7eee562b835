export { php as default } from "@codemirror/lang-php";
