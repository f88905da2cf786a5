// photos that are dropped, pasted or chosen are sent as data with the event
const most = {{ most_bytes }};
const send = (file) => {
  if (!file) return;
  if (file.size > most) {
    trigger('upload', {photo: '', size: file.size});
    return;
  }
  const reader = new FileReader();
  reader.onload = () => trigger('upload', {photo: String(reader.result).split(',')[1] || '', size: file.size});
  reader.readAsDataURL(file);
};
const lit = (on) => element.querySelector('.ch-drop')?.classList.toggle('ch-over', on);
element.addEventListener('change', (event) => { send(event.target.files[0]); event.target.value = ''; });
element.addEventListener('dragover', (event) => { event.preventDefault(); lit(true); });
element.addEventListener('dragleave', () => lit(false));
element.addEventListener('drop', (event) => { event.preventDefault(); lit(false); send(event.dataTransfer.files[0]); });
element.addEventListener('click', (event) => {
  if (event.target.closest('[data-action="clear"]')) { event.preventDefault(); trigger('clear'); }
});
{% if pasted %}
document.addEventListener('paste', (event) => send([...event.clipboardData.files].find((file) => file.type.startsWith('image/'))));
{% endif %}
