import{b as e}from"../part-ZOJIP2QO.js";import{va as a}from"../part-45VXAKZ5.js";var o=()=>a.define(e);export{o as default};
